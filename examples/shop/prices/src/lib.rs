//! What things cost: ten of one are cheaper.

use serde::Serialize;
use skiff_sdk::{Error, Json, Request, Response, Router};

#[derive(Serialize)]
struct Price {
    cents: u64,
    currency: &'static str,
}

#[skiff_sdk::handler]
fn prices(request: Request) -> Response {
    Router::new(request).get("/prices/{id}", price).done()
}

fn price(request: Request) -> Result<Json<Price>, Error> {
    let count = match request.query_value("count") {
        None => 1,
        Some(text) => text.parse::<u32>().map_err(|_| Error::new(400, format!("{text:?} is no count")))?,
    };
    let each = match request.param("id") {
        Some("skiff") => 120_000,
        Some("dinghy") => 64_950,
        Some("punt") => 87_500,
        other => return Err(Error::new(404, format!("nobody knows what {} costs", other.unwrap_or("nothing")))),
    };
    let full = u64::from(count) * each;
    let cents = if count >= 10 { full - full / 10 } else { full };
    Ok(Json(Price { cents, currency: "EUR" }))
}
