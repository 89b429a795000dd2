//! What the shop sells.

use serde::Serialize;
use skiff_sdk::{Error, Json, Request, Response, Router};

#[derive(Serialize)]
struct Item {
    id: &'static str,
    name: &'static str,
}

const ITEMS: [Item; 3] = [
    Item { id: "skiff", name: "Skiff, flat-bottomed" },
    Item { id: "dinghy", name: "Dinghy with oars" },
    Item { id: "punt", name: "Punt & pole" },
];

#[skiff_sdk::handler]
fn catalog(request: Request) -> Response {
    Router::new(request).get("/items", |_| Json(ITEMS)).get("/items/{id}", item).done()
}

fn item(request: Request) -> Result<Json<Item>, Error> {
    let id = request.param("id").unwrap_or_default();
    let found = ITEMS.into_iter().find(|item| item.id == id);
    found.map(Json).ok_or_else(|| Error::new(404, format!("there is no item {id}")))
}
