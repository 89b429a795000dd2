//! Takes orders: for what is in the catalog, at what prices say.

use serde::{Deserialize, Serialize};
use skiff_sdk::client::Call;
use skiff_sdk::{Error, IntoResponse, Json, Request, Response, Router};

const COUNT_MAX: u32 = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    item: String,
    count: u32,
}

#[derive(Deserialize)]
struct Price {
    cents: u64,
    currency: String,
}

#[derive(Serialize)]
struct Confirmation {
    item: String,
    count: u32,
    cents: u64,
    currency: String,
}

#[skiff_sdk::handler]
fn orders(request: Request) -> Response {
    Router::new(request).post("/orders", order).done()
}

fn order(mut request: Request) -> Result<Response, Error> {
    let Order { item, count } = request.json()?;
    if !(1..=COUNT_MAX).contains(&count) {
        return Err(Error::new(400, format!("count is 1 to {COUNT_MAX}, not {count}")));
    }
    // It becomes a part of an address.
    if item.is_empty() || !item.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(Error::new(400, "an item's id has letters, digits and '-'"));
    }
    let known = Call::get(&format!("http://catalog.shop.internal/items/{item}")).send()?;
    if known.status() == 404 {
        return Err(Error::new(404, format!("there is no item {item}")));
    }
    known.ok()?;
    let price = Call::get(&format!("http://prices.shop.internal/prices/{item}?count={count}")).send()?.ok()?;
    let Price { cents, currency } = price.json()?;
    skiff_sdk::info!("sold {count} {item}");
    Ok(Json(Confirmation { item, count, cents, currency }).into_response().with_status(201))
}
