//! Hostile guests and clients: each attack has the one outcome that it must come to, leaves what it must leave in logs,
//! events and figures, and has a benign twin just within the limit. All of it happens to one process, most of it at once,
//! while an innocent service is asked all the time; and when it is over that process is as it was. A few cases take minutes:
//! they run where `SKIFF_LONG` is set, as `cargo xtask test --all` does.
//!
//! - [`case`], [`suite`], [`world`]: a row of the table, what runs it, and what it happens to.
//! - [`client`], [`h2`]: clients that can say anything. [`component`]: components that no compiler makes.
//! - Guests: [`compute`], [`memory`], [`handles`], [`responses`], [`requests`], [`logs`], [`outbound`],
//!   [`shares`]; and those that call others: [`calls`], [`servers`], which [`outside`] runs, [`names`].
//! - Clients: [`smuggling`], [`clients_h1`], [`clients_h2`], [`handshakes`]; and those of the API: [`api`].
//! - Artifacts: [`components`].
//!
//! `SKIFF_HOSTILE=WORD` runs only the cases with that word in their names.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod aftermath;
mod api;
mod calls;
mod case;
mod client;
mod clients_h1;
mod clients_h2;
mod component;
mod components;
mod compute;
mod h2;
mod handles;
mod handshakes;
mod logs;
mod memory;
mod names;
mod outbound;
mod outside;
mod requests;
mod responses;
mod servers;
mod shares;
mod smuggling;
mod suite;
mod world;

use std::sync::Mutex;

use crate::aftermath::{Before, Watch};
use crate::world::World;

#[test]
#[ignore = "long: some minutes, and longer on a machine that does something else"]
fn nothing_that_a_guest_or_a_client_does_hurts() {
    let world = World::start();
    let cases: Vec<_> = [
        compute::cases(),
        memory::cases(),
        handles::cases(),
        responses::cases(),
        requests::cases(),
        logs::cases(),
        outbound::cases(),
        calls::cases(),
        servers::cases(),
        names::cases(&world),
        shares::cases(),
        smuggling::cases(),
        clients_h1::cases(),
        clients_h2::cases(),
        handshakes::cases(),
        api::cases(),
        components::cases(),
    ]
    .into_iter()
    .flatten()
    .collect();
    let faults = Mutex::new(Vec::new());
    let before = Before::measure(&world);
    let watch = Watch::start(&world);
    let counted = suite::run(&world, cases, &faults);
    watch.stop(&faults);
    before.compare(&world, &counted, &faults);
    let faults = faults.into_inner().unwrap();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}
