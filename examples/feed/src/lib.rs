//! A feed of server-sent events: what an `EventSource` in a page listens to.

use std::thread::sleep;
use std::time::Duration;

use skiff_sdk::{Error, IntoResponse, Request, Response, Router};

/// An end that nobody waits for: who listens goes before.
const EVENTS_MAX: u64 = 86_400;

#[skiff_sdk::handler]
fn feed(request: Request) -> Response {
    Router::new(request).get("/feed", |_| page()).get("/feed/events", events).done()
}

/// One event after another, each sent when it happens. The instance lives as long as somebody listens; a client that has gone
/// ends it at its next event.
fn events(request: Request) -> Result<Response, Error> {
    let every = match request.query_value("every") {
        None => 1000,
        Some(text) => text.parse().map_err(|_| Error::new(400, format!("{text:?} are no milliseconds")))?,
    };
    // Where a browser that lost the connection goes on.
    let after = request.header("last-event-id").and_then(|id| id.parse().ok()).unwrap_or(0_u64);
    Ok(Response::events(move |feed| {
        for count in after + 1..=EVENTS_MAX {
            feed.event_with_id(&count.to_string(), "tick", &format!("{{\"count\": {count}}}"))?;
            sleep(Duration::from_millis(every));
        }
        Ok(())
    }))
}

fn page() -> Response {
    let html = "<!doctype html>\n<title>Feed</title>\n<p id=now>waiting</p>\n<script>\n\
        new EventSource('/feed/events').addEventListener('tick', (event) => { now.textContent = event.data; });\n</script>\n";
    html.into_response().with_header("content-type", "text/html; charset=utf-8")
}
