//! A command that does what it is told, word by word, and then ends: `core [say=TEXT] [env=NAME] [ms=N] [spin] [sleep] [eat]
//! [tick] [until-end] [exit=N]`. Words that it does not know are only repeated.

use std::io::Read;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{env, hint, io, process, thread};

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    println!("core ran with {args:?}");
    for arg in &args {
        match arg.split_once('=').unwrap_or((arg, "")) {
            ("say", text) => eprintln!("{text}"),
            ("env", name) => println!("{name} is {:?}", env::var(name)),
            ("ms", number) => thread::sleep(Duration::from_millis(number.parse().unwrap())),
            ("exit", number) => process::exit(number.parse().unwrap()),
            ("spin", _) => loop {
                hint::spin_loop();
            },
            ("sleep", _) => loop {
                thread::sleep(Duration::from_millis(100));
            },
            ("tick", _) => loop {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
                println!("tick {}", now.as_millis());
                thread::sleep(Duration::from_millis(100));
            },
            ("eat", _) => {
                let mut eaten: Vec<Vec<u8>> = Vec::new();
                loop {
                    eaten.push(vec![1; 1 << 20]);
                    hint::black_box(&eaten);
                }
            }
            ("until-end", _) => {
                io::stdin().read_to_end(&mut Vec::new()).unwrap();
                println!("was asked to stop");
            }
            _ => {}
        }
    }
}
