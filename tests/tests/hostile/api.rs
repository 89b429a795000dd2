//! Clients of the API and the registry, before and behind its token.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use skiff_tests::Request;
use skiff_tests::http::{connect, read_response};

use crate::case::{Attack, Case, Lane, case};
use crate::client::tally;
use crate::world::World;

/// The API gives a head 30 s, and a body; a loaded machine gets some more.
const HEAD_TIMEOUT_MAX: Duration = Duration::from_secs(60);

pub(crate) fn cases() -> Vec<Case> {
    let version = || -> Attack { Box::new(|world| status(world.cluster.api("GET", "/v1/version"))) };
    let half = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r";
    let cases = [
        case("api: a thousand connections that say nothing", silent(1000, b""), "1000 x closed, innocent 200"),
        case("api: half of HTTP/2's preface", silent(20, half), "20 x closed, innocent 200"),
        case(
            "api: a head that is never finished",
            silent(20, b"GET /v1/version HTTP/1.1\r\nx: "),
            "20 x closed, innocent 200",
        ),
        case("api: a head that comes byte by byte", slow_heads(16), "16 x closed"),
        case("api: a body that is never sent", body_of(b"POST", 100, b"{"), "400"),
        case("api: a body of 9 MB", posts(9 << 20), "413"),
        case("api: a header of a megabyte", header_of(1 << 20), "431"),
    ];
    let twins = [
        version(),
        version(),
        version(),
        version(),
        Box::new(|world: &World| status(world.cluster.api("POST", "/v1/apply?dryRun=true").body(MANIFEST))) as Attack,
        posts(1 << 20),
        header_of(4 << 10),
    ];
    let came = ["200", "200", "200", "200", "200", "400", "200"];
    let with_twins = cases.into_iter().zip(twins).zip(came);
    with_twins.map(|((case, twin), came)| case.twin(twin, came).lane(Lane::Waiting)).collect()
}

const MANIFEST: &str = "{kind: Service, name: plain, image: hostile}";

fn status(request: Request) -> String {
    request.send().map_or_else(|error| error.to_string(), |response| response.status.to_string())
}

fn open(world: &World) -> TcpStream {
    let stream = connect(world.cluster.api_addr()).unwrap();
    stream.set_read_timeout(Some(HEAD_TIMEOUT_MAX)).unwrap();
    stream
}

/// Whether a connection ends; it may be told why first.
fn end(stream: &mut TcpStream) -> String {
    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
            "open".to_owned()
        }
        _ => "closed".to_owned(),
    }
}

/// Connections that say so much and no more, while an honest client asks.
fn silent(count: usize, bytes: &'static [u8]) -> Attack {
    Box::new(move |world| {
        let mut streams: Vec<_> = (0..count).map(|_| open(world)).collect();
        streams.iter_mut().for_each(|stream| stream.write_all(bytes).unwrap());
        let innocent = status(world.cluster.api("GET", "/v1/version"));
        format!("{}, innocent {innocent}", tally(streams.iter_mut().map(end)))
    })
}

fn slow_heads(count: usize) -> Attack {
    Box::new(move |world| {
        let start = Instant::now();
        let mut streams: Vec<_> = (0..count).map(|_| open(world)).collect();
        let mut bytes = b"GET /v1/version HTTP/1.1\r\nx: ".iter().chain(std::iter::repeat(&b'y'));
        while start.elapsed() < HEAD_TIMEOUT_MAX {
            let byte = [*bytes.next().unwrap()];
            if streams.iter_mut().filter(|stream| (&mut &**stream).write_all(&byte).is_ok()).count() == 0 {
                break;
            }
            thread::sleep(Duration::from_secs(1));
        }
        tally(streams.iter_mut().map(end))
    })
}

/// A body that was announced, and of which so much comes.
fn body_of(method: &'static [u8], length: usize, part: &'static [u8]) -> Attack {
    Box::new(move |world| {
        let token = world.cluster.token();
        let method = String::from_utf8_lossy(method);
        let head = format!(
            "{method} /v1/apply HTTP/1.1\r\nhost: api\r\nauthorization: Bearer {token}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
        );
        let mut stream = open(world);
        stream.write_all(&[head.as_bytes(), part].concat()).unwrap();
        read_response(&mut BufReader::new(stream)).map_or_else(|error| error.to_string(), |it| it.status.to_string())
    })
}

/// What is no manifest, of that size.
fn posts(bytes: usize) -> Attack {
    Box::new(move |world| status(world.cluster.api("POST", "/v1/apply").body(vec![b'x'; bytes])))
}

fn header_of(bytes: usize) -> Attack {
    Box::new(move |world| status(world.cluster.api("GET", "/v1/version").header("x", &"y".repeat(bytes))))
}
