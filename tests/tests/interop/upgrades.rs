//! Connections that go on in another protocol reach a container, on this node or another one, and nothing else does.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;
use skiff_tests::docker::{Engine, apart};
use skiff_tests::{Fleet, guest, within};

use super::containers::{NATIVE, PATIENCE, SERVER, World, push};

const ASKS: &str = "GET /ws HTTP/1.1\r\nHost: any.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: a2V5\r\n\r\n";

/// A client that has asked, and the head that it was answered with.
struct Client {
    stream: TcpStream,
    head: String,
}

impl Client {
    fn ask(gateway: SocketAddr, asks: &str) -> Self {
        let mut stream = TcpStream::connect(gateway).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(asks.as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            assert_eq!(stream.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&head));
            head.extend(byte);
        }
        Self { stream, head: String::from_utf8(head).unwrap().to_lowercase() }
    }

    fn reads(&mut self, expected: &str) {
        let mut read = vec![0; expected.len()];
        self.stream.read_exact(&mut read).unwrap();
        assert_eq!(String::from_utf8_lossy(&read), expected);
    }

    fn talks(mut self) {
        assert!(self.head.starts_with("http/1.1 101"), "{}", self.head);
        for header in ["\r\nupgrade: websocket", "\r\nconnection: upgrade", "\r\nsec-websocket-accept: key"] {
            assert!(self.head.contains(header), "{}", self.head);
        }
        self.reads("hello ");
        // Longer than a guest may be silent.
        self.stream.write_all(b"first").unwrap();
        self.reads("FIRST");
        std::thread::sleep(Duration::from_millis(1500));
        let long = "x".repeat(200_000);
        let mut writes = self.stream.try_clone().unwrap();
        let writing = std::thread::spawn(move || writes.write_all(long.as_bytes()));
        self.reads(&"X".repeat(200_000));
        writing.join().unwrap().unwrap();
        // The container ends it.
        self.stream.write_all(b"bye!").unwrap();
        self.reads("BYE!");
        assert_eq!(self.stream.read(&mut [0]).unwrap(), 0);
    }
}

#[test]
fn a_container_goes_on_in_another_protocol_and_a_component_does_not() {
    apart(|| {
        let world = World::new();
        world.apply("native", &NATIVE.replace("http: {", "http: {timeout: {idle: 1s}, "));
        world.cluster.eventually_answers("/", 200);
        world.cluster.skiff(&["push", "hello:1", guest("hello").to_str().unwrap()]).ok();
        world.cluster.skiff(&["run", "hello:1", "--name", "hello", "--host", "hello.test"]).ok();
        let gateway = world.cluster.gateway_addr();
        Client::ask(gateway, ASKS).talks();
        // One that the container answers as any other, and a component.
        for (host, body) in [("any.test", "hi\n"), ("hello.test", "Hello from Skiff!\n")] {
            let mut plain = Client::ask(gateway, &ASKS.replace("/ws", "/").replace("any.test", host));
            assert!(plain.head.starts_with("http/1.1 200") && !plain.head.contains("upgrade"), "{}", plain.head);
            plain.reads(body);
        }
        // What only nodes say to one another is nobody else's to say.
        let forged = "GET /ws HTTP/1.1\r\nHost: any.test\r\nx-skiff-upgrade: websocket\r\n\r\n";
        assert!(Client::ask(gateway, forged).head.starts_with("http/1.1 200"));

        // A client that goes away, and a replica that does.
        drop(Client::ask(gateway, ASKS));
        let mut open = Client::ask(gateway, ASKS);
        open.reads("hello ");
        world.cluster.skiff(&["delete", "service", "native"]).ok();
        let deleted = Instant::now();
        assert_eq!(open.stream.read(&mut [0]).unwrap_or(0), 0);
        assert!(deleted.elapsed() < Duration::from_secs(40), "{:?}", deleted.elapsed());
        world.nothing_is_left();
    });
}

#[test]
fn another_node_reaches_a_container_as_its_own_does() {
    apart(|| {
        let engine = Engine::start();
        let mut fleet = Fleet::on_loopback();
        fleet.join("with", &[&format!("--docker={}", engine.socket().display())]);
        fleet.join("without", &["--docker=none"]);
        let folder = tempfile::tempdir().unwrap();
        // A machine with an engine of its own, as a developer's: it takes what is on loopback as it is.
        let docker = engine.docker("tester");
        let registry = fleet.server_url().rsplit_once("//").unwrap().1.to_owned();
        let context: Value = serde_json::from_slice(&std::fs::read(fleet.path("context.json")).unwrap()).unwrap();
        push(&docker, folder.path(), (&registry, context["token"].as_str().unwrap()), SERVER);
        let file = fleet.write("native.yaml", format!("kind: Service\nname: native\n{NATIVE}"));
        fleet.skiff(&["apply", "-f", &file, "--wait"]).ok();
        fleet.eventually_answers("without", "any.test", "/", 200);
        Client::ask(fleet.gateway("without"), ASKS).talks();
        let mut plain = Client::ask(fleet.gateway("without"), &ASKS.replace("/ws", "/other"));
        assert!(plain.head.starts_with("http/1.1 200"), "{}", plain.head);
        plain.reads("hi\n");

        // Through the control plane, over the node's own connection.
        let copied = fleet.skiff_with_input(&["exec", "-i", "native", "--", "/server", "copy"], b"over there");
        assert_eq!((copied.code, copied.stdout.as_str()), (Some(5), "over there"), "{copied}");
        fleet.skiff(&["delete", "service", "native"]).ok();
        within(PATIENCE, "no container is left", || {
            docker.ok(&["ps", "--all", "--quiet", "--filter", "label=skiff.node"]).is_empty().then_some(())
        });
    });
}
