//! From the host's call to the handler and back.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

use crate::{IntoResponse, Request};

/// Exports a function as this component's HTTP handler.
///
/// The function takes a [`Request`](crate::Request) and returns anything that is
/// [`IntoResponse`](crate::IntoResponse). Use it once in a crate.
///
/// ```no_run
/// skiff_sdk::http!(handle);
///
/// fn handle(_request: skiff_sdk::Request) -> &'static str {
///     "Hello"
/// }
/// ```
#[macro_export]
macro_rules! http {
    ($handler:path) => {
        const _: () = {
            use $crate::__private::wasip2;

            struct Service;

            impl wasip2::exports::http::incoming_handler::Guest for Service {
                fn handle(
                    request: wasip2::http::types::IncomingRequest,
                    response: wasip2::http::types::ResponseOutparam,
                ) {
                    $crate::__private::answer(request, response, $handler);
                }
            }

            wasip2::http::proxy::export!(Service);
        };
    };
}

/// Answers one request with what `handler` returns.
pub fn answer<R: IntoResponse>(request: IncomingRequest, out: ResponseOutparam, handler: impl FnOnce(Request) -> R) {
    let response = handler(Request::new(request)).into_response();
    response.send(out);
}
