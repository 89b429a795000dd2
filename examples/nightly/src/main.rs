//! A report on the shortener beside it: which of its links were followed most, `nightly [HOW MANY]`.
//!
//! What a job prints is its log; what it returns is its end. An error is printed and is a failure, after which the job's
//! `retries` decide.

use std::env;
use std::error::Error;

use skiff_sdk::keyvalue;

const SHOWN_DEFAULT: usize = 10;

fn main() -> Result<(), Box<dyn Error>> {
    let shown = match env::args().nth(1) {
        Some(text) => text.parse().map_err(|_| format!("{text:?} is no number (hint: write args: [10])"))?,
        None => SHOWN_DEFAULT,
    };
    let links = keyvalue::open("links")?;
    let mut visits = Vec::new();
    for key in links.keys()? {
        let Some(name) = key.strip_prefix("visits/") else { continue };
        let count: u64 = links.get_text(&key)?.unwrap_or_default().parse()?;
        let address = links.get_text(&format!("to/{name}"))?.unwrap_or_default();
        visits.push((count, address));
    }
    visits.sort_unstable_by(|a, b| b.cmp(a));
    println!("{} links were followed, {} times", visits.len(), visits.iter().map(|(count, _)| count).sum::<u64>());
    for (count, address) in visits.iter().take(shown) {
        println!("{count:>8} {address}");
    }
    Ok(())
}
