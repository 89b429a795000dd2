//! Calls to other services, on this node and on others.

use http::{Request, Response};
use http_body_util::BodyExt;
use skiff_api::id::ServiceKey;
use tokio::sync::mpsc;
use wasmtime_wasi_http::{Error as HttpError, RequestOptions, WasiBody};

use super::Chain;
use super::body::{Piece, Piped};
use super::outbound::{Caller, Held, Sent, whole};
use crate::gateway::{Call, Called, CalleeBody, call, too_deep};
use crate::metrics::{Refused, To};

/// Pieces between the two: one that is read, and one that is written meanwhile.
const PIECES: usize = 1;

pub(super) async fn send(
    caller: &Caller,
    (chain, to): (&Chain, &ServiceKey),
    mut request: Request<WasiBody>,
    options: RequestOptions,
    held: Held,
) -> Result<(Response<WasiBody>, Sent), HttpError> {
    if !caller.template.allow.service(&caller.service.namespace, to) {
        let what = format!("calls http://{}.{}.internal, which it does not allow itself", to.name, to.namespace);
        return Err(caller.deny(Refused::Service, &what, &grant(caller, to)));
    }
    let figures = &caller.reach.figures;
    figures.sent(To::Service);
    let Some(chain) = chain.then(&caller.service) else {
        figures.refused(Refused::Depth);
        let chain = format!("{chain} > {}", caller.service);
        let what = format!("the call to service {to} would be one too many in a chain of calls: {chain}");
        caller.tell("CallDepth", format!("{what} (hint: do these services call each other in a circle?)"));
        return Ok(whole(too_deep(chain)));
    };
    request.extensions_mut().insert(chain);
    let Some(gateway) = caller.reach.gateway() else { return Err(HttpError::DestinationUnavailable) };
    let wanted = Call { from: &caller.service, to, patience: options.first_byte_timeout };
    match call(&gateway, wanted, request).await {
        Called::Whole(response) => Ok(whole(response)),
        Called::Streams(head, body) => {
            let (pieces, piped) = mpsc::channel(PIECES);
            let body_of_caller = Piped { pieces: piped, ended: false }.boxed_unsync();
            let between = options.between_bytes_timeout;
            Ok((Response::from_parts(head, body_of_caller), Box::new(pump(body, pieces, between, held))))
        }
        Called::NotACaller => {
            let what = format!("calls http://{}.{}.internal, which does not let it", to.name, to.namespace);
            let hint = format!("add {:?} to http.callers of service {to}", as_caller(&caller.service, to));
            Err(caller.deny(Refused::Caller, &what, &hint))
        }
        Called::Impatient => Err(HttpError::ConnectionReadTimeout),
    }
}

/// The line that would let it call that service.
pub(super) fn grant(caller: &Caller, to: &ServiceKey) -> String {
    let is_near = to.namespace == caller.service.namespace;
    let name = if is_near { to.name.to_string() } else { format!("{}.{}", to.name, to.namespace) };
    format!("allow: {{services: [{name}]}}")
}

/// What a service is called in the list of another.
pub(super) fn as_caller(caller: &ServiceKey, at: &ServiceKey) -> String {
    match caller.namespace == at.namespace {
        true => caller.name.to_string(),
        false => format!("{}.{}", caller.name, caller.namespace),
    }
}

/// Drives a service's answer for as long as its caller reads it.
async fn pump(
    mut body: CalleeBody,
    pieces: mpsc::Sender<Piece>,
    between: Option<std::time::Duration>,
    _held: Held,
) -> Result<(), HttpError> {
    loop {
        let next = async {
            match between {
                None => Ok(body.next().await),
                Some(between) => tokio::time::timeout(between, body.next()).await,
            }
        };
        let piece = tokio::select! {
            next = next => match next {
                Ok(Some(Ok(frame))) => Piece::Frame(frame),
                Ok(Some(Err(_))) => Piece::Broken(HttpError::HttpResponseIncomplete),
                Ok(None) => Piece::End,
                Err(_) => Piece::Broken(HttpError::ConnectionReadTimeout),
            },
            () = pieces.closed() => return Ok(()),
        };
        let is_last = !matches!(&piece, Piece::Frame(frame) if !frame.is_trailers());
        let trailers = matches!(&piece, Piece::Frame(_)) && is_last;
        if pieces.send(piece).await.is_err() {
            return Ok(());
        }
        if is_last {
            // Trailers are the last piece of a body; its end still has to be said.
            if trailers {
                let _ = pieces.send(Piece::End).await;
            }
            return Ok(());
        }
    }
}
