//! A worker: it runs on its own, counts each second in a bucket, and stops when it is asked to.

use std::error::Error;
use std::time::Duration;

use skiff_sdk::{keyvalue, worker};

const PAUSE: Duration = Duration::from_secs(1);

/// An error is printed, and ends the worker; it begins again, later each time.
fn main() -> Result<(), Box<dyn Error>> {
    let beats = keyvalue::open("beats")?;
    loop {
        let count = beats.increment("all", 1)?;
        println!("beat {count}");
        if !worker::sleep(PAUSE) {
            break;
        }
    }
    println!("stops");
    Ok(())
}
