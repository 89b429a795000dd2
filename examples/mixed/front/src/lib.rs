//! The guest book's door: checks what comes, and keeps it in a ledger, which is a container with a disk.

use skiff_sdk::client::Call;
use skiff_sdk::{Error, IntoResponse, Json, Request, Response, Router};

use serde::{Deserialize, Serialize};

const LEDGER: &str = "http://ledger.mixed.internal/entries";

const NAME_CHARS_MAX: usize = 60;
const TEXT_CHARS_MAX: usize = 500;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    text: String,
}

#[skiff_sdk::handler]
fn front(request: Request) -> Response {
    Router::new(request).get("/book", read).post("/book", sign).done()
}

fn read(_: Request) -> Result<Json<Vec<Entry>>, Error> {
    let lines = Call::get(LEDGER).send()?.ok()?.text()?;
    let entries: Result<Vec<Entry>, _> = lines.lines().map(serde_json::from_str).collect();
    Ok(Json(entries.map_err(|error| Error::new(502, format!("the ledger holds a line that is none: {error}")))?))
}

fn sign(mut request: Request) -> Result<Response, Error> {
    let entry: Entry = request.json()?;
    for (field, value, most) in [("name", &entry.name, NAME_CHARS_MAX), ("text", &entry.text, TEXT_CHARS_MAX)] {
        if value.trim().is_empty() || value.chars().count() > most {
            return Err(Error::new(400, format!("{field} has 1 to {most} characters")));
        }
    }
    // A line of the ledger: JSON has none within.
    let line = serde_json::to_string(&entry).map_err(|error| Error::new(500, error.to_string()))?;
    Call::post(LEDGER, line).send()?.ok()?;
    skiff_sdk::info!("{} signed", entry.name);
    Ok(Json(entry).into_response().with_status(201))
}
