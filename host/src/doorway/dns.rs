//! Names, as a container looks them up. Nothing is asked of anybody: what it may know is at the node's own address.

use std::net::Ipv4Addr;
use std::time::Duration;

use simple_dns::rdata::{A, RData};
use simple_dns::{CLASS, Packet, PacketFlag, QCLASS, QTYPE, RCODE, ResourceRecord, TYPE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::place::is_from;
use crate::capabilities::Outbound;

/// A question is a name and little else.
const QUERY_BYTES_MAX: usize = 1024;
/// Questions a second by UDP, of one container: more than any program asks. Others wait in the kernel, which drops what
/// does not fit.
const QUERIES_MAX: u32 = 1000;
/// Questions on one connection.
const QUERIES_PER_CONNECTION_MAX: u32 = 100;
/// For each of them.
const TCP_SILENCE: Duration = Duration::from_secs(10);
/// A socket that fails does not keep a core busy.
const AFTER_ERROR: Duration = Duration::from_millis(50);
/// What an answer is good for. It is always the same.
const TTL_SECS: u32 = 60;

const HEADER_BYTES: usize = 12;

/// Answers by UDP for as long as it is polled.
pub(super) async fn serve_udp(socket: &UdpSocket, gateway: Ipv4Addr, outbound: &Outbound) {
    let mut query = [0; QUERY_BYTES_MAX];
    let (mut since, mut count) = (Instant::now(), 0);
    loop {
        let Ok((length, from)) = socket.recv_from(&mut query).await else {
            sleep(AFTER_ERROR).await;
            continue;
        };
        if !is_from(gateway, from.ip()) {
            continue;
        }
        if let Some(answer) = answer(&query[..length], gateway, |name| outbound.knows(name)) {
            // One that is lost is asked for again.
            let _ = socket.try_send_to(&answer, from);
        }
        count += 1;
        let ends = since + Duration::from_secs(1);
        if Instant::now() >= ends {
            (since, count) = (Instant::now(), 0);
        } else if count >= QUERIES_MAX {
            sleep_until(ends).await;
        }
    }
}

/// The same on a connection.
pub(super) async fn serve_tcp(stream: &mut TcpStream, gateway: Ipv4Addr, outbound: &Outbound) {
    let mut query = [0; QUERY_BYTES_MAX];
    for _ in 0..QUERIES_PER_CONNECTION_MAX {
        let exchange = async {
            let length = usize::from(stream.read_u16().await.ok()?);
            let query = query.get_mut(..length)?;
            stream.read_exact(query).await.ok()?;
            let answer = answer(query, gateway, |name| outbound.knows(name))?;
            stream.write_u16(u16::try_from(answer.len()).ok()?).await.ok()?;
            stream.write_all(&answer).await.ok()
        };
        if timeout(TCP_SILENCE, exchange).await.ok().flatten().is_none() {
            return;
        }
    }
}

/// The answer to a question. `None`: it is none.
fn answer(query: &[u8], gateway: Ipv4Addr, knows: impl FnOnce(&str) -> bool) -> Option<Vec<u8>> {
    let header = query.get(..HEADER_BYTES)?;
    let number = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let (id, is_answer) = (number(0), header[2] & 0x80 != 0);
    if is_answer {
        return None;
    }
    // Before anything is read that says how much there is of it: one question, and what comes along with it.
    let is_plain = (number(4), number(6), number(8)) == (1, 0, 0) && number(10) <= 2;
    let is_query = header[2] & 0x78 == 0;
    let read = Packet::parse(query).ok().filter(|_| is_plain && is_query);
    let mut reply = Packet::new_reply(id);
    let Some(asked) = &read else {
        *reply.rcode_mut() = if is_query { RCODE::FormatError } else { RCODE::NotImplemented };
        return reply.build_bytes_vec().ok();
    };
    if asked.has_flags(PacketFlag::RECURSION_DESIRED) {
        reply.set_flags(PacketFlag::RECURSION_DESIRED);
    }
    reply.set_flags(PacketFlag::RECURSION_AVAILABLE);
    let question = asked.questions.first()?;
    reply.questions.push(question.clone());
    if !matches!(question.qclass, QCLASS::ANY | QCLASS::CLASS(CLASS::IN)) {
        *reply.rcode_mut() = RCODE::Refused;
    } else if !knows(&question.qname.to_string()) {
        *reply.rcode_mut() = RCODE::NameError;
    } else if matches!(question.qtype, QTYPE::ANY | QTYPE::TYPE(TYPE::A)) {
        let address = RData::A(A { address: gateway.to_bits() });
        reply.answers.push(ResourceRecord::new(question.qname.clone(), CLASS::IN, TTL_SECS, address));
    }
    reply.build_bytes_vec_compressed().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use simple_dns::Question;

    use super::*;

    const GATEWAY: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

    fn query(name: &str, qtype: QTYPE, qclass: QCLASS) -> Vec<u8> {
        let mut packet = Packet::new_query(7);
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        packet.questions.push(Question::new(name.try_into().unwrap(), qtype, qclass, false));
        packet.build_bytes_vec().unwrap()
    }

    fn asked(query: &[u8]) -> (RCODE, Vec<RData<'static>>) {
        let answer = answer(query, GATEWAY, |name| name.eq_ignore_ascii_case("cart.shop.internal")).unwrap();
        let packet = Packet::parse(&answer).unwrap();
        assert!(packet.id() == 7 && packet.has_flags(PacketFlag::RESPONSE));
        (packet.rcode(), packet.answers.into_iter().map(|record| record.rdata.into_owned()).collect())
    }

    #[test]
    fn what_may_be_known_is_at_the_nodes_address_and_nothing_else_is_anywhere() {
        let (a, aaaa, of) = (QTYPE::TYPE(TYPE::A), QTYPE::TYPE(TYPE::AAAA), QCLASS::CLASS(CLASS::IN));
        let (code, found) = asked(&query("Cart.shop.internal", a, of));
        assert_eq!(code, RCODE::NoError);
        assert!(matches!(&found[..], [RData::A(A { address: 0xC612_0001 })]), "{found:?}");
        let (code, found) = asked(&query("cart.shop.internal", aaaa, of));
        assert!(code == RCODE::NoError && found.is_empty());
        for qtype in [a, aaaa] {
            let (code, found) = asked(&query("evil.example", qtype, of));
            assert!(code == RCODE::NameError && found.is_empty());
        }
        let (code, _) = asked(&query("cart.shop.internal", a, QCLASS::CLASS(CLASS::CH)));
        assert_eq!(code, RCODE::Refused);
    }

    #[test]
    fn what_is_no_single_question_is_not_looked_at() {
        let good = query("cart.shop.internal", QTYPE::TYPE(TYPE::A), QCLASS::CLASS(CLASS::IN));
        let changed = |at: usize, to: u8| {
            let mut bytes = good.clone();
            bytes[at] = to;
            bytes
        };
        // Two questions; answers that are not there; another kind of question.
        assert_eq!(asked(&changed(5, 2)).0, RCODE::FormatError);
        assert_eq!(asked(&changed(6, 255)).0, RCODE::FormatError);
        assert_eq!(asked(&changed(2, 5 << 3)).0, RCODE::NotImplemented);
        assert_eq!(asked(&good[..good.len() - 1]).0, RCODE::FormatError);
        let knows = |_: &str| panic!("it was looked up");
        assert_eq!(answer(&changed(2, 0x80), GATEWAY, knows), None);
        assert_eq!(answer(&good[..11], GATEWAY, knows), None);
    }

    proptest! {
        #[test]
        fn whatever_is_asked_has_a_short_answer(
            bytes in prop::collection::vec(any::<u8>(), 0..600),
            counts in prop::collection::vec(0..3u8, 8),
            is_plausible: bool,
        ) {
            let mut bytes = bytes;
            if is_plausible && bytes.len() > HEADER_BYTES {
                bytes[2] = 0;
                for (n, count) in counts.into_iter().enumerate() {
                    bytes[4 + n] = if n % 2 == 0 { 0 } else { count };
                }
            }
            if let Some(answer) = answer(&bytes, GATEWAY, |_| true) {
                // A name, once.
                prop_assert!(answer.len() < 300);
                prop_assert!(Packet::parse(&answer).is_ok());
            }
        }
    }
}
