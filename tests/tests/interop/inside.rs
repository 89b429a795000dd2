//! What reaches past the gateway into a container, and what looks after it there: commands, ports, checks of its health.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use skiff_tests::docker::apart;
use skiff_tests::{Cluster, guest, within};

use super::containers::{NATIVE, PATIENCE, World};

/// A program that is asked to end, and waited for, when this is dropped.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.0), Signal::INT);
        let _ = self.0.wait();
    }
}

fn skiff(cluster: &Cluster, args: &[&str]) -> Command {
    let mut command = cluster.command(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn a_command_runs_in_a_container_with_its_streams_and_its_code() {
    apart(|| {
        let world = World::new();
        world.apply("native", NATIVE);
        world.cluster.eventually_answers("/", 200);

        // Its input to the end, both outputs apart, and its code.
        let mut copying = skiff(&world.cluster, &["exec", "-i", "native", "--", "/server", "copy"]);
        let mut copying = copying.stdin(Stdio::piped()).spawn().unwrap();
        let sent: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
        let mut typed = copying.stdin.take().unwrap();
        let typing = std::thread::spawn({
            let sent = sent.clone();
            move || typed.write_all(&sent)
        });
        let output = copying.wait_with_output().unwrap();
        typing.join().unwrap().unwrap();
        assert!(output.stdout == sent, "{} of {} bytes came back", output.stdout.len(), sent.len());
        assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(5), "copied\n"));

        // Without -i it reads nothing.
        let nothing = world.cluster.skiff(&["exec", "service/native", "/server", "copy"]);
        assert_eq!((nothing.code, nothing.stdout.as_str()), (Some(5), ""));
        // A terminal of the usual size, where this process has none.
        let terminal = world.cluster.skiff(&["exec", "-t", "native", "--", "/server", "terminal"]).ok().stdout;
        assert_eq!(terminal.trim_end(), "1: 80 x 24");
        let no_terminal = world.cluster.skiff(&["exec", "-it", "native", "/server", "terminal"]);
        assert!(no_terminal.code == Some(4) && no_terminal.stderr.contains("leave -t out"), "{no_terminal}");

        // Mistakes.
        let missing = world.cluster.skiff(&["exec", "native", "--", "/nothing"]);
        let said = format!("{}{}", missing.stdout, missing.stderr);
        assert!(matches!(missing.code, Some(126 | 127)) && said.contains("/nothing"), "{missing}");
        let nobody = world.cluster.skiff(&["exec", "nobody", "ls"]);
        assert!(nobody.code == Some(3) && nobody.stderr.contains("nobody"), "{nobody}");
        world.cluster.skiff(&["push", "hello:1", guest("hello").to_str().unwrap()]).ok();
        world.cluster.skiff(&["run", "hello:1", "--name", "hello", "--path", "/hello"]).ok();
        let component = world.cluster.skiff(&["exec", "hello", "ls"]);
        assert!(component.code == Some(5) && component.stderr.contains("is a component"), "{component}");

        // All that is known of it.
        let inspected = world.cluster.skiff(&["inspect", "native"]).ok().json();
        assert_eq!(inspected[0]["kind"], "Service");
        assert_eq!(inspected[0]["replicas"][0]["status"]["phase"], "Ready");
        assert_eq!(inspected[0]["revisions"][0]["spec"]["template"]["runtime"], "docker");
        let image = world.cluster.skiff(&["inspect", "--type", "image", "hello:1"]).ok().stdout;
        assert!(image.contains("runs as a service"), "{image}");
        let image = world.cluster.skiff(&["inspect", "native:1"]).ok().stdout;
        assert!(image.contains("container, 1 layers") && image.contains("/server"), "{image}");
        let image = world.cluster.skiff(&["inspect", "native:1", "-o", "json"]).ok().json();
        assert_eq!(image["starts"], serde_json::json!(["/server"]));
    });
}

#[test]
fn a_port_of_this_machine_leads_to_a_replica() {
    apart(|| {
        let world = World::new();
        world.apply("native", NATIVE);
        world.cluster.eventually_answers("/", 200);
        world.cluster.skiff(&["push", "hello:1", guest("hello").to_str().unwrap()]).ok();
        world.cluster.skiff(&["run", "hello:1", "--name", "hello", "--path", "/hello"]).ok();
        for (service, said) in [("native", "hi\n"), ("hello", "Hello from Skiff!\n")] {
            let mut forwarding = Ended(skiff(&world.cluster, &["port-forward", service, ":8080"]).spawn().unwrap());
            let mut output = forwarding.0.stdout.take().unwrap();
            let mut line = Vec::new();
            while !line.ends_with(b"\n") {
                let mut byte = [0];
                assert_eq!(output.read(&mut byte).unwrap(), 1, "it ended early");
                line.extend(byte);
            }
            let line = String::from_utf8(line).unwrap();
            let address = line.strip_prefix("Forwarding from ").and_then(|rest| rest.split_once(" -> 8080")).unwrap().0;
            for _ in 0..3 {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.write_all(b"GET / HTTP/1.1\r\nhost: any\r\nconnection: close\r\n\r\n").unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).unwrap();
                assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(said), "{service}: {answer}");
            }
        }
        let closed = skiff(&world.cluster, &["port-forward", "native", ":81"]).spawn().unwrap();
        drop(Ended(closed));
        let nobody = world.cluster.skiff(&["port-forward", "nobody", "80"]);
        assert!(nobody.code == Some(3), "{nobody}");
        let bad = world.cluster.skiff(&["port-forward", "native", "http"]);
        assert!(bad.code == Some(2) && bad.stderr.contains("is no port"), "{bad}");
    });
}

#[test]
fn a_container_that_is_not_well_is_replaced_whatever_it_is_asked() {
    apart(|| {
        let world = World::new();
        let checks = ["{path: /health", "{exec: [/server, check]"];
        for check in checks {
            world.apply("native", &format!("{NATIVE}health: {check}, every: 1s, failures: 2}}\n"));
            let first = within(PATIENCE, "one that is checked", || match &world.containers()[..] {
                [one] if world.cluster.get("/").text() == "hi\n" => Some(one.clone()),
                _ => None,
            });
            assert_eq!(world.cluster.get("/ill").text(), "ill\n");
            let said = world.eventually_said(&["describe", "service", "native"], "Unhealthy");
            assert!(said.contains("2 checks failed one after another"), "{said}");
            within(PATIENCE, "another one runs", || {
                let now = world.containers();
                (now.len() == 1 && now[0] != first).then_some(())
            });
            world.cluster.eventually_answers("/", 200);
        }
        // One that is never well is never ready, and says why.
        world.apply("native", &format!("{NATIVE}health: {{port: 9, start: 2s}}\n"));
        let said = world.eventually_said(&["describe", "service", "native"], "it was not well within 2 s");
        assert!(said.contains("port 9 takes no connection"), "{said}");
        assert_eq!(world.cluster.get("/").text(), "hi\n", "the one before goes on");
        world.cluster.skiff(&["delete", "service", "native"]).ok();
        world.nothing_is_left();
    });
}
