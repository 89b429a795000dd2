//! Which function answers which path.

use crate::{Error, IntoResponse, Request, Response};

/// Finds the handler of a request, route by route.
///
/// ```no_run
/// use skiff_sdk::{Error, Request, Response, Router};
///
/// #[skiff_sdk::handler]
/// fn shop(request: Request) -> Response {
///     Router::new(request)
///         .get("/", |_| "a shop\n")
///         .get("/items/{id}", item)
///         .delete("/items/{id}", |_| ())
///         .done()
/// }
///
/// fn item(request: Request) -> Result<String, Error> {
///     let id: u32 = request.param("id").unwrap_or_default().parse().map_err(|_| Error::new(400, "ids are numbers"))?;
///     Ok(format!("item {id}\n"))
/// }
/// ```
/// A request is routed once, by an instance that ends after it, so there is no table to build: each route is looked at as it is
/// named, and the first that fits answers. `{name}` stands for one segment, `{*name}` at the end for all that is left. What
/// fits no path gets a 404, what fits one by another method a 405 that says which; HEAD is answered as GET is.
#[must_use = "`done` answers"]
pub struct Router {
    state: State,
    /// The methods of the routes whose path fits.
    allowed: Vec<&'static str>,
}

enum State {
    Looking(Request),
    Answered(Response),
}

impl Router {
    pub fn new(request: Request) -> Self {
        Self { state: State::Looking(request), allowed: Vec::new() }
    }

    pub fn get<R: IntoResponse>(self, path: &str, handler: impl FnOnce(Request) -> R) -> Self {
        self.route("GET", path, handler)
    }

    pub fn post<R: IntoResponse>(self, path: &str, handler: impl FnOnce(Request) -> R) -> Self {
        self.route("POST", path, handler)
    }

    pub fn put<R: IntoResponse>(self, path: &str, handler: impl FnOnce(Request) -> R) -> Self {
        self.route("PUT", path, handler)
    }

    pub fn patch<R: IntoResponse>(self, path: &str, handler: impl FnOnce(Request) -> R) -> Self {
        self.route("PATCH", path, handler)
    }

    pub fn delete<R: IntoResponse>(self, path: &str, handler: impl FnOnce(Request) -> R) -> Self {
        self.route("DELETE", path, handler)
    }

    /// A route of any method.
    pub fn route<R: IntoResponse>(
        mut self,
        method: &'static str,
        path: &str,
        handler: impl FnOnce(Request) -> R,
    ) -> Self {
        let State::Looking(mut request) = self.state else { return self };
        self.state = match matched(path, request.path()) {
            None => State::Looking(request),
            Some(params) if request.method() == method || (method, request.method()) == ("GET", "HEAD") => {
                request.set_params(params);
                State::Answered(handler(request).into_response())
            }
            Some(_) => {
                self.allowed.push(method);
                State::Looking(request)
            }
        };
        self
    }

    /// The answer: of the route that fitted, else a 404 or a 405.
    pub fn done(self) -> Response {
        let request = match self.state {
            State::Answered(response) => return response,
            State::Looking(request) => request,
        };
        match self.allowed.is_empty() {
            true => Error::new(404, format!("there is no {} here", request.path())).into_response(),
            false => {
                let mut allowed = self.allowed;
                allowed.dedup();
                let allowed = allowed.join(", ");
                let error = Error::new(405, format!("{} offers {allowed}", request.path()));
                error.into_response().with_header("allow", allowed)
            }
        }
    }
}

/// What a pattern's names stand for in a path, if it fits.
fn matched(pattern: &str, path: &str) -> Option<Vec<(String, String)>> {
    let mut params = Vec::new();
    let (mut wanted, mut given) = (pattern.strip_prefix('/')?, path.strip_prefix('/')?);
    loop {
        let (segment, wanted_rest) = split(wanted);
        if let Some(name) = segment.strip_prefix("{*").and_then(|rest| rest.strip_suffix('}')) {
            params.push((name.to_owned(), crate::request::percent_decoded(given)));
            return Some(params);
        }
        let (value, given_rest) = split(given);
        match segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            // An empty segment is nobody's value.
            Some(_) if value.is_empty() => return None,
            Some(name) => params.push((name.to_owned(), crate::request::percent_decoded(value))),
            None if segment == value => {}
            None => return None,
        }
        match (wanted_rest, given_rest) {
            (None, None) => return Some(params),
            (Some(next), Some(rest)) => (wanted, given) = (next, rest),
            _ => return None,
        }
    }
}

fn split(path: &str) -> (&str, Option<&str>) {
    match path.split_once('/') {
        Some((segment, rest)) => (segment, Some(rest)),
        None => (path, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_whole_paths() {
        let fits = |pattern, path| {
            matched(pattern, path).map(|params| {
                params.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
            })
        };
        for (pattern, path, params) in [
            ("/", "/", ""),
            ("/items", "/items", ""),
            ("/items/{id}", "/items/7", "id=7"),
            ("/items/{id}/parts/{part}", "/items/7/parts/a%20b", "id=7,part=a b"),
            ("/files/{*path}", "/files/a/b/c", "path=a/b/c"),
            ("/files/{*path}", "/files/", "path="),
        ] {
            assert_eq!(fits(pattern, path).as_deref(), Some(params), "{pattern} {path}");
        }
        for (pattern, path) in [
            ("/", "/items"),
            ("/items", "/items/"),
            ("/items", "/itemsx"),
            ("/items/{id}", "/items"),
            ("/items/{id}", "/items/"),
            ("/items/{id}", "/items/7/8"),
            ("/files/{*path}", "/files"),
        ] {
            assert_eq!(fits(pattern, path), None, "{pattern} {path}");
        }
    }
}
