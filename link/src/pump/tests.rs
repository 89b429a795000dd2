use std::future::pending;

use proptest::prelude::*;
use tokio::io::{DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::*;

const OPTIONS: Options = Options {
    send_bytes_max: 1 << 20,
    receive_bytes_max: 1 << 20,
    heartbeat: Options::HEARTBEAT,
    silence: Options::SILENCE,
    stall: Options::STALL,
};
/// Longer than any of the times, many times over.
const LONG: Duration = Duration::from_secs(600);

struct Side {
    outbox: mpsc::Sender<String>,
    inbox: mpsc::Receiver<String>,
    end: JoinHandle<End>,
}

fn side(stream: DuplexStream, options: Options) -> Side {
    let ((outbox, sent), (came, inbox)) = (mpsc::channel(8), mpsc::channel(8));
    Side { outbox, inbox, end: tokio::spawn(run(stream, sent, came, options)) }
}

fn linked() -> (Side, Side) {
    let (near, far) = duplex(4096);
    (side(near, OPTIONS), side(far, OPTIONS))
}

/// A side, and the other end of its connection in the test's hands.
fn against() -> (Side, DuplexStream) {
    let (near, far) = duplex(4096);
    (side(near, OPTIONS), far)
}

#[tokio::test(start_paused = true)]
async fn messages_arrive_in_order_both_ways_and_an_idle_link_lives() {
    let (mut a, mut b) = linked();
    for round in 0..3 {
        for n in 0..50 {
            let text = format!("{round} {n}");
            a.outbox.send(text.clone()).await.unwrap();
            b.outbox.send(text.clone()).await.unwrap();
            assert_eq!(a.inbox.recv().await.unwrap(), text);
            assert_eq!(b.inbox.recv().await.unwrap(), text);
        }
        tokio::time::sleep(LONG).await;
    }
    assert!(!a.end.is_finished() && !b.end.is_finished());
    // What was sent before the end arrives.
    a.outbox.send("last".to_owned()).await.unwrap();
    drop(a.outbox);
    assert_eq!(b.inbox.recv().await.unwrap(), "last");
    assert!(matches!(a.end.await.unwrap(), End::OutboxClosed));
    assert!(matches!(b.end.await.unwrap(), End::PeerClosed));
}

#[tokio::test(start_paused = true)]
async fn a_long_message_passes_a_narrow_line() {
    let (a, mut b) = linked();
    let text = "x".repeat(1 << 19);
    a.outbox.send(text.clone()).await.unwrap();
    assert_eq!(b.inbox.recv().await.unwrap(), text);
}

#[tokio::test(start_paused = true)]
async fn silence_ends_a_link_in_a_second() {
    let (a, _far) = against();
    let start = Instant::now();
    assert!(matches!(a.end.await.unwrap(), End::Silent));
    assert_eq!(start.elapsed(), Options::SILENCE);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_speaks_and_does_not_read_is_noticed() {
    let (a, far) = against();
    let (_unread, mut speaking) = tokio::io::split(far);
    let speaking = tokio::spawn(async move {
        let mut beat = Vec::new();
        frame::heartbeat(&mut beat);
        while speaking.write_all(&beat).await.is_ok() {
            tokio::time::sleep(Options::HEARTBEAT).await;
        }
    });
    a.outbox.send("x".repeat(100 << 10)).await.unwrap();
    let start = Instant::now();
    assert!(matches!(a.end.await.unwrap(), End::Stalled));
    assert!(start.elapsed() >= Options::STALL && start.elapsed() < 2 * Options::STALL, "{:?}", start.elapsed());
    speaking.abort();
}

#[tokio::test(start_paused = true)]
async fn whoever_takes_nothing_out_of_the_inbox_for_a_minute_keeps_the_link() {
    let (a, mut b) = linked();
    for n in 0..16 {
        a.outbox.send(n.to_string()).await.unwrap();
    }
    // The inbox is full, and this side's heartbeats still go out, as the other's come in until the line is full as well.
    tokio::time::sleep(12 * Options::STALL).await;
    assert!(!a.end.is_finished() && !b.end.is_finished());
    for n in 0..16 {
        assert_eq!(b.inbox.recv().await.unwrap(), n.to_string());
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_ends_the_link_at_once_and_no_other() {
    let (bystander, mut other) = linked();
    let mut long = Vec::new();
    frame::encode(&"x".repeat(2 << 20), usize::MAX, &mut long).unwrap();
    let mut number = Vec::new();
    frame::encode(&7, usize::MAX, &mut number).unwrap();
    let bad: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        &[0, 0, 0, 5, 9, 0, b'"', b'x', b'"'],
        &[0, 0, 0, 5, 1, 64, b'"', b'x', b'"'],
        &[0, 0, 0, 5, 1, 0, b'"', b'x', b'y'],
        &number,
        &long,
    ];
    for bytes in bad {
        let (mut a, mut far) = against();
        // A long one is refused before all of it was taken.
        let _ = far.write_all(bytes).await;
        let end = timeout(Options::HEARTBEAT, a.end).await.unwrap().unwrap();
        assert!(matches!(end, End::Malformed(_)), "{end}");
        assert_eq!(a.inbox.recv().await, None);
    }
    bystander.outbox.send("still".to_owned()).await.unwrap();
    assert_eq!(other.inbox.recv().await.unwrap(), "still");
}

#[tokio::test(start_paused = true)]
async fn a_message_of_ours_that_is_too_long_ends_the_link() {
    let (a, _b) = linked();
    a.outbox.send("x".repeat(2 << 20)).await.unwrap();
    assert!(matches!(a.end.await.unwrap(), End::Malformed(frame::Error::TooLong { .. })));
}

#[tokio::test(start_paused = true)]
async fn an_inbox_that_nobody_reads_any_more_ends_the_link() {
    let (a, b) = linked();
    drop(b.inbox);
    assert!(matches!(b.end.await.unwrap(), End::InboxClosed));
    assert!(matches!(a.end.await.unwrap(), End::PeerClosed | End::Broken(_)));
}

#[tokio::test(start_paused = true)]
async fn last_words_arrive_whoever_of_their_sides_ends_first() {
    for _ in 0..100 {
        let (a, mut b) = linked();
        // As when a control plane refuses a node: it says why and lets go of both ends, while the node goes on talking.
        b.outbox.send("talking".to_owned()).await.unwrap();
        a.outbox.send("why".to_owned()).await.unwrap();
        drop((a.inbox, a.outbox));
        b.outbox.send("on".to_owned()).await.unwrap();
        assert_eq!(b.inbox.recv().await.as_deref(), Some("why"));
        assert_eq!(b.inbox.recv().await, None);
        let (a, b) = (a.end.await.unwrap(), b.end.await.unwrap());
        assert!(matches!(a, End::InboxClosed | End::OutboxClosed), "{a}");
        assert!(matches!(b, End::PeerClosed | End::Broken(_)), "{b}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_that_is_dropped_closes_its_connection() {
    let (near, mut far) = duplex(4096);
    let (_outbox, sent) = mpsc::channel::<String>(1);
    let (came, _inbox) = mpsc::channel::<String>(1);
    let link = timeout(Duration::from_millis(10), run(near, sent, came, OPTIONS));
    assert!(link.await.is_err());
    assert_eq!(far.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    assert!(timeout(LONG, pending::<()>()).await.is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_bytes_make_it_panic_or_wait_for_ever(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (a, mut far) = against();
            far.write_all(&bytes).await.unwrap();
            let ended = timeout(LONG, a.end).await;
            prop_assert!(ended.is_ok());
            Ok(())
        })?;
    }
}
