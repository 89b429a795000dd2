//! A client's request that another node answers.

use bytes::Bytes;
use http::Request;
use http::request::Parts;
use http_body::Body;
use skiff_api::id::ServiceKey;
use tokio::time::Instant;

use super::super::answer::{ERROR_HEADER, Refusal};
use super::super::flight::Flight;
use super::super::serve::{Answer, Place, enter, here};
use super::{NotSent, Order, Passed, Tape, send};
use crate::capabilities::Chain;

/// Passes on a request, whose head is as a guest may see it.
pub(in super::super) async fn forward<B>(
    flight: &mut Flight,
    (service, is_full_here): (ServiceKey, bool),
    started: Instant,
    (parts, body): (Parts, B),
) -> Result<Answer, Refusal>
where
    B: Body<Data = Bytes> + Send + 'static,
{
    let tape = Tape::new(body);
    let order = Order { service: &service, chain: &Chain::default(), started, is_full_here };
    let shared = flight.client.shared.clone();
    match send(&shared, order, &parts, &tape).await {
        Ok(Passed { head, body, remote }) => {
            let code = head.headers.get(ERROR_HEADER).and_then(|code| code.to_str().ok());
            flight.passed_on(remote, code);
            Ok(Answer::Elsewhere(head, body))
        }
        Err(NotSent::Here) => {
            let Place::Here(target, entered) = enter(&flight.client, &parts, started).await? else {
                return Err(Refusal::NoReplica(service));
            };
            let Some(body) = tape.copy() else { return Err(Refusal::PeerLost(service)) };
            here(flight, (target, entered), started, Request::from_parts(parts, body)).await
        }
        Err(NotSent::Refused(refusal)) => Err(refusal),
        // Nobody calls.
        Err(NotSent::NotACaller) => Err(Refusal::NoReplica(service)),
    }
}
