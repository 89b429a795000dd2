//! What a container reaches: services, servers and names that it is allowed, by the same names as a component, and nothing
//! else, however it dials. By a real engine that sets no rules of its own, on a machine of the test's own.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use skiff_tests::docker::{Docker, Engine, apart, static_program};
use skiff_tests::programs::done;
use skiff_tests::{Cluster, guest, within};

use super::docker::{import, log_in, pushed};

const PATIENCE: Duration = Duration::from_secs(60);

/// A server that does what its path says, and answers with what came of it:
/// `/lookup/NAME`, `/dial/IP/PORT`, `/ask/IP` (a name server), `/get/NAME/PORT`, `/say/NAME/PORT/HEX`.
const CLIENT: &str = r#"
    int lookup(const char *server, const char *name, char *ip) {
        unsigned char query[300] = { 0, 7, 1, 0, 0, 1 }; int at = 12;
        while (*name) { int n = strcspn(name, "."); query[at] = n; memcpy(query + at + 1, name, n); at += n + 1; name += n + (name[n] == '.'); }
        at++; query[at + 1] = 1; query[at + 3] = 1; at += 4;
        int fd = socket(AF_INET, SOCK_DGRAM, 0); struct timeval wait = { 2, 0 };
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
        struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(53) };
        inet_aton(server, &to.sin_addr);
        unsigned char answer[512];
        int count = sendto(fd, query, at, 0, (void *)&to, sizeof to) < 0 ? -1 : recv(fd, answer, sizeof answer, 0);
        int error = errno; close(fd); errno = error;
        if (count < 12) return -1;
        if (answer[3] & 15) return answer[3] & 15;
        if (!answer[7]) return 99;
        sprintf(ip, "%d.%d.%d.%d", answer[count - 4], answer[count - 3], answer[count - 2], answer[count - 1]);
        return 0;
    }
    int dial(const char *ip, int port) {
        int fd = socket(AF_INET, SOCK_STREAM, 0); struct timeval wait = { 2, 0 };
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
        struct timeval longer = { 5, 0 };
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &longer, sizeof longer);
        struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port) };
        inet_aton(ip, &to.sin_addr);
        if (!connect(fd, (void *)&to, sizeof to)) return fd;
        int error = errno; close(fd); errno = error;
        return -1;
    }
    signal(SIGTERM, _exit); signal(SIGPIPE, SIG_IGN);
    int one = 1, server = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(8080) };
    if (bind(server, (void *)&at, sizeof at) || listen(server, 128)) return 4;
    for (;;) {
        static char ask[32768], say[32768]; int client = accept(server, NULL, NULL), got = 0;
        if (client < 0) continue;
        while (got < (int)sizeof ask - 1) {
            int count = read(client, ask + got, sizeof ask - 1 - got);
            if (count <= 0) break;
            got += count; ask[got] = 0;
            if (strstr(ask, "\r\n\r\n")) break;
        }
        char *verb = strtok(ask + 5, "/ "), *host = strtok(NULL, "/ "), *port = strtok(NULL, "/ "), *hex = strtok(NULL, "/ ");
        char names[64] = "", ip[64] = "";
        FILE *file = fopen("/etc/resolv.conf", "r");
        if (file) { fscanf(file, "nameserver %63s", names); fclose(file); }
        int fd = -1, code = 0;
        strcpy(say, "ready");
        if (verb && !strcmp(verb, "dial")) {
            fd = dial(strcmp(host, "gateway") ? host : names, atoi(port));
            strcpy(say, fd < 0 ? strerror(errno) : "open");
        } else if (verb && !strcmp(verb, "ask")) {
            code = lookup(host, "hello.default.internal", ip);
            sprintf(say, "%s", code < 0 ? strerror(errno) : "answered");
        } else if (verb && host && strcmp(verb, "HTTP")) {
            code = lookup(names, host, ip);
            if (code) sprintf(say, "code %d", code);
            else if (!strcmp(verb, "lookup")) strcpy(say, strcmp(ip, names) ? ip : "gateway");
            else if ((fd = dial(ip, atoi(port))) < 0) strcpy(say, strerror(errno));
            else if (!strcmp(verb, "get")) {
                char request[512]; int length = sprintf(request, "GET / HTTP/1.1\r\nHost: %s:%s\r\nConnection: close\r\n\r\n", host, port);
                write(fd, request, length);
                int total = 0, count;
                while ((count = read(fd, say + total, 4000 - total)) > 0) total += count;
                say[total] = 0;
            } else {
                static unsigned char bytes[16384]; int length = strlen(hex) / 2, total = 0, count;
                for (int i = 0; i < length; i++) sscanf(hex + 2 * i, "%2hhx", &bytes[i]);
                write(fd, bytes, length);
                struct timeval shorter = { 1, 0 };
                while (total < 8000 && (count = read(fd, bytes + total, 8000 - total)) > 0) {
                    total += count;
                    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &shorter, sizeof shorter);
                }
                say[0] = 0;
                for (int i = 0; i < total; i++) sprintf(say + 2 * i, "%02x", bytes[i]);
            }
        }
        if (fd >= 0) close(fd);
        static char answer[40000];
        int count = sprintf(answer, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s", strlen(say), say);
        write(client, answer, count);
        close(client);
    }
"#;

struct World {
    // A cluster ends before its engine.
    cluster: Cluster,
    engine: Engine,
}

impl World {
    fn new() -> Self {
        let (engine, folder) = (Engine::start(), tempfile::tempdir().unwrap());
        let cluster = Cluster::builder().arg(&format!("--docker={}", engine.socket().display())).start();
        let world = Self { cluster, engine };
        let (docker, registry) = (world.docker(), world.cluster.api_addr().to_string());
        log_in(&docker, &registry, &world.cluster.token());
        let program = std::fs::read(static_program(folder.path(), "client", CLIENT)).unwrap();
        let image = format!("{registry}/default/client:1");
        import(&docker, folder.path(), ("client", &program), &image);
        pushed(&docker, &image);
        docker.ok(&["rmi", &image]);
        world.cluster.skiff(&["push", "hello:1", guest("hello").to_str().unwrap()]).ok();
        world
    }

    fn docker(&self) -> Docker<'_> {
        self.engine.docker("tester")
    }

    fn apply(&self, text: &str) {
        let file = self.cluster.write("some.yaml", text);
        self.cluster.skiff(&["apply", "-f", &file]).ok();
    }

    /// A container of that name, which is asked at `/`, and once it is ready.
    fn client(&self, name: &str, allow: &str) {
        self.apply(&format!(
            "kind: Service\nname: {name}\nimage: client:1\nports: [{{port: 8080}}]\nhttp: {{routes: [{{host: {name}.test, path: /}}]}}\n{allow}"
        ));
        within(PATIENCE, &format!("{name} is ready"), || {
            (self.cluster.get_host(&format!("{name}.test"), "/").text() == "ready").then_some(())
        });
    }

    /// What came of it.
    fn does(&self, name: &str, what: &str) -> String {
        self.cluster.get_host(&format!("{name}.test"), what).text()
    }

    fn eventually_does(&self, name: &str, what: &str, expected: &str) {
        let mut last = String::new();
        let end = std::time::Instant::now() + PATIENCE;
        while std::time::Instant::now() < end {
            last = self.does(name, what);
            if last.contains(expected) {
                return;
            }
            thread::sleep(Duration::from_millis(200));
        }
        panic!("{name} {what} never says {expected:?} but {last:?}\n{}", self.cluster.log());
    }

    fn told(&self, service: &str, expected: &str) {
        within(PATIENCE, &format!("{service} is told {expected:?}"), || {
            self.cluster.skiff(&["describe", "service", service]).ok().stdout.contains(expected).then_some(())
        });
    }

    /// Of Skiff's only container of that service: its process and its address.
    fn container(&self, service: &str) -> (String, String) {
        let label = format!("label=skiff.service={service}");
        let id = self.docker().ok(&["ps", "--quiet", "--filter", &label]);
        let format = "{{.State.Pid}} {{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        let found = self.docker().ok(&["inspect", "--format", format, id.trim()]);
        let (pid, address) = found.trim().split_once(' ').unwrap_or_else(|| panic!("{found}"));
        (pid.to_owned(), address.to_owned())
    }

    fn nothing_is_left(&self, rules: &str) {
        let left = |args: &[&str]| self.docker().ok(&[args, &["--quiet", "--filter", "label=skiff.node"]].concat());
        within(PATIENCE, "no container is left", || left(&["ps", "--all"]).is_empty().then_some(()));
        within(PATIENCE, "no network is left", || left(&["network", "ls"]).is_empty().then_some(()));
        within(PATIENCE, "the rules are as before", || (self::rules() == rules).then_some(()));
        let names = self.cluster.data().join("node/names");
        within(PATIENCE, "no file is left", || {
            std::fs::read_dir(&names).is_ok_and(|mut files| files.next().is_none()).then_some(())
        });
    }
}

/// All that the kernel is told on this machine.
fn rules() -> String {
    let of = |program: &str, table: &str| done(Command::new(program).args(["-w", "-t", table, "-S"]));
    [of("iptables", "filter"), of("iptables", "nat"), of("ip6tables", "filter")].concat()
}

/// A server that gives back what it gets, once.
fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut said) = (stream.unwrap(), [0; 64]);
            let count = stream.read(&mut said).unwrap_or(0);
            drop(stream.write_all(&said[..count]));
        }
    });
    port
}

/// A server of HTTPS by that name, and who trusts it.
fn secure(name: &str) -> (u16, Arc<ClientConfig>) {
    let pair = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::try_from(pair.signing_key.serialize_der()).unwrap();
    let server = server.with_no_client_auth().with_single_cert(vec![pair.cert.der().clone()], key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(pair.cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let client = client.with_root_certificates(roots).with_no_client_auth();
    let (listener, server) = (TcpListener::bind("127.0.0.1:0").unwrap(), Arc::new(server));
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = ServerConnection::new(server.clone()).unwrap();
            drop(StreamOwned::new(connection, stream.unwrap()).read(&mut [0; 64]));
        }
    });
    (port, Arc::new(client))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect()
}

/// The first thing that a client says to a server of that name.
fn greeting(config: &Arc<ClientConfig>, name: &str) -> (ClientConnection, String) {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(config.clone(), name).unwrap();
    let mut said = Vec::new();
    client.write_tls(&mut said).unwrap();
    (client, hex(&said))
}

const HELLO: &str = "kind: Service\nname: hello\nimage: hello:1\nhttp: {callers: [one]}\n";

#[test]
fn services_are_called_by_name_and_as_oneself() {
    apart(|| {
        let mut world = World::new();
        let before = rules();
        world.apply(HELLO);
        world.apply("kind: Service\nname: other\nimage: hello:1\n");
        world.client("one", "allow: {services: [hello]}\n");
        world.client("two", "allow: {services: [hello]}\n");
        world.client("none", "");

        world.eventually_does("one", "/get/hello.default.internal/80", "Hello from Skiff!");
        assert_eq!(world.does("one", "/lookup/hello.default.internal"), "gateway");
        // No such name: it is not allowed.
        assert_eq!(world.does("one", "/get/other.default.internal/80"), "code 3");
        assert_eq!(world.does("none", "/lookup/hello.default.internal"), "code 3");
        assert_eq!(world.does("one", "/lookup/evil.example"), "code 3");
        world.told("one", "looks up other.default.internal");
        world.told("one", "looks up evil.example");
        // The one that is called knows who calls.
        let denied = world.does("two", "/get/hello.default.internal/80");
        assert!(denied.starts_with("HTTP/1.1 403") && denied.contains("x-skiff-error: not-allowed"), "{denied}");
        world.told("two", "http.callers of service default/hello");

        // A node that was killed, and comes back to its containers.
        let is = world.container("one");
        world.cluster.kill9();
        world.cluster.restart();
        world.eventually_does("one", "/get/hello.default.internal/80", "Hello from Skiff!");
        assert_eq!(world.container("one"), is);
        world.eventually_does("two", "/get/hello.default.internal/80", "HTTP/1.1 403");

        // An engine that comes back without them.
        world.engine.restart();
        world.eventually_does("one", "/get/hello.default.internal/80", "Hello from Skiff!");
        assert_ne!(world.container("one"), is);

        for service in ["one", "two", "none"] {
            world.cluster.skiff(&["delete", "service", service]).ok();
        }
        world.nothing_is_left(&before);
    });
}

#[test]
fn nothing_else_is_reached_however_it_is_dialled() {
    apart(|| {
        let world = World::new();
        let before = rules();
        // What a machine has: something that listens on all of its addresses.
        let open = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = open.local_addr().unwrap().port();
        world.apply(HELLO);
        world.client("one", "allow: {services: [hello]}\n");
        world.client("two", "");
        let (pid, _) = world.container("one");
        let (_, neighbour) = world.container("two");
        // An engine without rules of its own leaves a way out, or here is one; and the machine passes on what it gets.
        let gateway = {
            let (_, address) = world.container("one");
            let address = address.parse::<std::net::Ipv4Addr>().unwrap().to_bits();
            std::net::Ipv4Addr::from_bits((address & !7) + 1).to_string()
        };
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        let route = ["-t", &pid, "-n", "ip", "route", "replace", "default", "via", &gateway];
        done(Command::new("nsenter").args(route));
        let refused = |what: &str| {
            let said = world.does("one", what);
            assert!(said != "open" && said != "answered" && !said.is_empty(), "{what}: {said}");
            said
        };
        assert_eq!(refused(&format!("/dial/gateway/{port}")), "Connection refused");
        assert_eq!(refused(&format!("/dial/10.83.0.2/{port}")), "Connection refused");
        refused(&format!("/dial/gateway/{}", world.cluster.api_addr().port()));
        refused("/dial/gateway/443");
        refused(&format!("/dial/{neighbour}/8080"));
        refused("/dial/169.254.169.254/80");
        refused("/dial/10.83.0.2/80");
        refused("/ask/10.83.0.2");
        refused("/ask/8.8.8.8");
        refused("/ask/127.0.0.11");
        // The same ways, where they lead somewhere.
        assert_eq!(world.does("one", "/dial/gateway/80"), "open");
        assert_eq!(world.does("one", &format!("/ask/{gateway}")), "answered");
        world.eventually_does("one", "/get/hello.default.internal/80", "Hello from Skiff!");
        // It is the rule that holds it, and nothing else.
        done(Command::new("iptables").args(["-w", "-D", "INPUT", "1"]));
        assert_eq!(world.does("one", &format!("/dial/10.83.0.2/{port}")), "open");
        drop(open);
        world.cluster.skiff(&["delete", "service", "one"]).ok();
        world.cluster.skiff(&["delete", "service", "two"]).ok();
        world.nothing_is_left(&before);
    });
}

#[test]
fn servers_are_reached_by_name_as_far_as_they_are_granted() {
    apart(|| {
        let world = World::new();
        let (echo, (tls, config)) = (echo(), secure("localhost"));
        let (_, stranger) = secure("other.example");
        world.apply(&format!(
            "kind: Namespace\nname: default\nallow: {{private: [127.0.0.0/8], tcp: [\"localhost:{echo}\"]}}\n"
        ));
        let http = world.cluster.gateway_addr().port();
        world.client(
            "one",
            &format!(
                "allow: {{http: [\"https://localhost:{tls}\", \"http://localhost:{http}\"], tcp: [\"localhost:{echo}\"], private: [127.0.0.0/8]}}\n"
            ),
        );
        world.client("two", &format!("allow: {{http: [\"http://localhost:{http}\", \"https://localhost:{tls}\"]}}\n"));

        // Requests: the gateway's own port is a server outside.
        let answer = world.does("one", &format!("/get/localhost/{http}"));
        assert!(answer.contains("404") && answer.contains("no-route"), "{answer}");
        // The same name, but its address is not granted.
        let denied = world.does("two", &format!("/get/localhost/{http}"));
        assert!(denied.starts_with("HTTP/1.1 403") && denied.contains("address-not-allowed"), "{denied}");
        world.told("two", "that is no public address");

        // TLS, between the two of them.
        let (mut client, said) = greeting(&config, "localhost");
        let answer = bytes(&world.does("one", &format!("/say/localhost/{tls}/{said}")));
        let mut rest = &answer[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets().unwrap();
        }
        assert!(!client.is_handshaking(), "{} bytes", answer.len());
        // Another name on the same port; none; an address that is not granted.
        let (_, said) = greeting(&stranger, "other.example");
        assert_eq!(world.does("one", &format!("/say/localhost/{tls}/{said}")), "");
        world.told("one", &format!("connects to https://other.example:{tls}, which it does not allow itself"));
        let (_, said) = greeting(&config, "127.0.0.1");
        assert_eq!(world.does("one", &format!("/say/localhost/{tls}/{said}")), "");
        let (_, said) = greeting(&config, "localhost");
        assert_eq!(world.does("two", &format!("/say/localhost/{tls}/{said}")), "");

        // Whatever it is, by its port.
        assert_eq!(world.does("one", &format!("/say/localhost/{echo}/{}", hex(b"hi"))), hex(b"hi"));
        assert_eq!(world.does("two", &format!("/say/localhost/{echo}/{}", hex(b"hi"))), "Connection refused");
    });
}

#[test]
fn a_port_is_connected_to_by_name_from_components_and_containers() {
    apart(|| {
        let world = World::new();
        let before = rules();
        let echo = echo();
        world.cluster.skiff(&["push", "probe:1", guest("probe").to_str().unwrap()]).ok();
        world.apply(&format!(
            "kind: Namespace\nname: default\nallow: {{private: [127.0.0.0/8], tcp: [\"localhost:{echo}\"]}}\n"
        ));
        world.client("db", "");
        world.apply("kind: Service\nname: shy\nimage: client:1\nports: [{port: 8080}]\nhttp: {callers: []}\n");
        let tcp = format!("tcp: [\"db.default.internal:8080\", \"shy.default.internal:8080\", \"localhost:{echo}\"]");
        let probe = |name: &str, allow: &str| {
            let routes = format!("http: {{routes: [{{host: {name}.test, path: /}}]}}");
            world.apply(&format!("kind: Service\nname: {name}\nimage: probe:1\n{routes}\nallow: {{{allow}}}\n"));
            world.cluster.eventually_answers_host(&format!("{name}.test"), "/", 200);
        };
        probe("probe", &format!("{tcp}, private: [127.0.0.0/8]"));
        probe("near", &tcp);
        probe("other", "services: [db]");
        let connects = |name: &str, to: &str| world.does(name, &format!("/sockets?to={to}"));
        let is_there = |name: &str, to: &str| {
            let said = connects(name, to);
            assert_eq!(said, format!("connected to {to}\n"), "{name}");
        };
        let is_refused = |name: &str, to: &str, why: &str| {
            let said = connects(name, to);
            assert!(said.starts_with("refused: "), "{name} {to}: {said}");
            world.told(name, why);
        };
        is_there("probe", "db.default.internal:8080");
        is_there("probe", &format!("localhost:{echo}"));
        let (_, address) = world.container("db");
        is_refused("probe", "db.default.internal:8081", ":8081, which it does not allow itself");
        is_refused("probe", &format!("{address}:8080"), &format!("connects to {address}:8080"));
        is_refused("probe", &format!("127.0.0.1:{echo}"), &format!("connects to 127.0.0.1:{echo}"));
        is_refused("probe", "evil.example:80", "looks up evil.example");
        is_refused("probe", "shy.default.internal:8080", "http.callers of service default/shy");
        is_refused("near", &format!("localhost:{echo}"), "that is no public address");
        // One that keeps them has as many as an instance may.
        world.cluster.skiff(&["push", "hostile:1", guest("hostile").to_str().unwrap()]).ok();
        let routes = "http: {routes: [{host: hoard.test, path: /}]}";
        let allow = "allow: {tcp: [\"db.default.internal:8080\"]}";
        world.apply(&format!("kind: Service\nname: hoard\nimage: hostile:1\n{routes}\n{allow}\n"));
        world.cluster.eventually_answers_host("hoard.test", "/hoard?n=0&to=x", 200);
        assert_eq!(world.does("hoard", "/hoard?n=100&to=db.default.internal:8080"), "32 of 100 opened\n");
        assert!(connects("other", "db.default.internal:8080").starts_with("refused: "));

        // The same from a container; and not by a service that is gone.
        world.client("one", "allow: {tcp: [\"db.default.internal:8080\"]}\n");
        world.eventually_does("one", "/get/db.default.internal/8080", "ready");
        world.client("two", "allow: {tcp: [\"shy.default.internal:8080\"]}\n");
        assert_eq!(world.does("two", "/get/shy.default.internal/8080"), "");
        world.told("two", "http.callers of service default/shy");
        world.cluster.skiff(&["delete", "service", "db"]).ok();
        within(PATIENCE, "it is gone", || {
            connects("probe", "db.default.internal:8080").starts_with("refused").then_some(())
        });
        world.told("probe", "no container of service default/db");
        for service in ["one", "two", "shy"] {
            world.cluster.skiff(&["delete", "service", service]).ok();
        }
        world.nothing_is_left(&before);
    });
}

#[test]
fn without_rules_a_container_runs_only_if_it_is_allowed_nothing() {
    apart(|| {
        let engine = Engine::start();
        // A machine on which no rule can be set.
        let folder = tempfile::tempdir().unwrap();
        for program in ["iptables", "iptables-restore", "ip6tables"] {
            let path = folder.path().join(program);
            std::fs::write(&path, "#!/bin/sh\necho 'out of tables' >&2\nexit 4\n").unwrap();
            done(Command::new("chmod").arg("+x").arg(path));
        }
        let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
        let docker = format!("--docker={}", engine.socket().display());
        let cluster = Cluster::builder().arg(&docker).env("PATH", &path).start();
        let world = World { cluster, engine };
        let (docker, registry) = (world.docker(), world.cluster.api_addr().to_string());
        log_in(&docker, &registry, &world.cluster.token());
        let program = std::fs::read(static_program(folder.path(), "client", CLIENT)).unwrap();
        let image = format!("{registry}/default/client:1");
        import(&docker, folder.path(), ("client", &program), &image);
        pushed(&docker, &image);
        world.client("none", "");
        world.apply("kind: Service\nname: one\nimage: client:1\nallow: {services: [none]}\n");
        world.told("one", "out of tables");
        world.told("one", "FirewallUnavailable");
        assert!(world.cluster.log().contains("no rules can be set for containers"), "{}", world.cluster.log());
    });
}
