//! The smallest service: one path, one answer.

use skiff_sdk::{Error, Request, Response};

#[skiff_sdk::handler]
fn hello(request: Request) -> Result<Response, Error> {
    match (request.method(), request.path()) {
        ("GET" | "HEAD", "/") => Ok(Response::text("Hello from Skiff!\n")),
        (_, "/") => Err(Error::new(405, "there is only GET here")),
        (_, path) => Err(Error::new(404, format!("there is no {path} here, try /"))),
    }
}
