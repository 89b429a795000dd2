//! A command that does what it is told, word by word, and then ends: `core [say=TEXT] [env=NAME] [ms=N] [spin] [sleep] [eat]
//! [tick] [until-end] [tty] [ask] [cat] [flood=MIB] [exit=N]`. Words that it does not know are only repeated. `quiet`, said
//! first, keeps it from saying with what it runs.

use std::io::{IsTerminal, Read, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{env, hint, io, process, thread};

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    if args.first().is_none_or(|arg| arg != "quiet") {
        println!("core ran with {args:?}");
    }
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
            ("tty", _) => println!("a terminal: {} {}", io::stdin().is_terminal(), io::stdout().is_terminal()),
            ("ask", _) => {
                print!("name? ");
                io::stdout().flush().unwrap();
                let mut name = String::new();
                io::stdin().read_line(&mut name).unwrap();
                println!("hello {}", name.trim_end());
            }
            ("cat", _) => drop(io::copy(&mut io::stdin(), &mut io::stdout()).unwrap()),
            ("flood", mebibytes) => {
                let mebibyte: Vec<u8> = (0..1 << 20).map(|number| (number % 251) as u8).collect();
                (0..mebibytes.parse().unwrap()).for_each(|_| io::stdout().write_all(&mebibyte).unwrap());
            }
            ("until-end", _) => {
                io::stdin().read_to_end(&mut Vec::new()).unwrap();
                println!("was asked to stop");
            }
            _ => {}
        }
    }
}
