//! A request that is counted while it lasts.

use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, StatusCode};

use super::access::Entry;
use super::answer::Refusal;
use super::client::Client;
use super::peer::Remote;
use super::target::Target;
use crate::metrics::Gauge;

/// A request in flight: from its head until its answer has gone.
pub(super) struct Flight {
    pub(super) client: Arc<Client>,
    target: Option<Arc<Target>>,
    /// The other node that answers, if one does.
    remote: Option<Arc<Remote>>,
    /// What the access log will say of it, if there is one.
    entry: Option<Box<Entry>>,
}

impl Flight {
    pub(super) fn new(client: Arc<Client>, request: &Parts) -> Self {
        client.shared.metrics.gateway.add(Gauge::InFlight, 1);
        client.request_begins();
        let entry = client.shared.access.is_some().then(|| Box::new(Entry::new(request)));
        Self { client, target: None, remote: None, entry }
    }

    /// It has a place at a replica.
    pub(super) fn board(&mut self, target: Arc<Target>) {
        target.figures.add(Gauge::InFlight, 1);
        if let Some(left) = self.target.replace(target) {
            left.figures.add(Gauge::InFlight, -1);
        }
    }

    /// Another node has answered it: with an answer of its own, if there is a code.
    pub(super) fn passed_on(&mut self, remote: Arc<Remote>, code: Option<&str>) {
        if let (Some(entry), Some(code)) = (&mut self.entry, code) {
            entry.refused_elsewhere(code);
        }
        self.remote = Some(remote);
    }

    pub(super) fn target(&self) -> Option<&Arc<Target>> {
        self.target.as_ref()
    }

    /// The head of its answer is there.
    pub(super) fn answered(&mut self, status: StatusCode, headers: &HeaderMap, took: Duration) {
        if let Some(entry) = &mut self.entry {
            entry.answered(status, headers);
        }
        self.client.shared.metrics.gateway.answered(status, took);
        if let Some(target) = &self.target {
            target.figures.answered(status, took);
        }
    }

    /// Its answer is the gateway's own.
    pub(super) fn refused(&mut self, refusal: &Refusal) {
        if let Some(entry) = &mut self.entry {
            entry.refused(refusal.code());
        }
        self.client.shared.metrics.gateway.refused(refusal.code());
        if let Some(target) = &self.target {
            target.refused(refusal);
        }
    }

    /// A piece of its body is passed on.
    pub(super) fn sent(&mut self, bytes: usize) {
        if let Some(entry) = &mut self.entry {
            entry.sent(bytes);
        }
    }

    /// Its body is passed on to its end.
    pub(super) fn ended(&mut self) {
        if let Some(entry) = &mut self.entry {
            entry.ended();
        }
    }

    /// Says something in the replica's log.
    pub(super) fn note(&self, line: &str) {
        if let Some(target) = &self.target {
            target.runner.note(line);
        }
    }

    /// The body of its answer broke off.
    pub(super) fn cut_off(&self) {
        self.client.shared.metrics.gateway.cut_off();
        if let Some(target) = &self.target {
            target.figures.cut_off();
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.client.shared.metrics.gateway.add(Gauge::InFlight, -1);
        self.client.request_ended();
        if let Some(target) = &self.target {
            target.figures.add(Gauge::InFlight, -1);
        }
        if let Some(entry) = self.entry.take() {
            entry.write(&self.client, self.target.as_deref(), self.remote.as_deref());
        }
    }
}

/// Waits for a place at a replica.
pub(super) struct Queued<'f> {
    client: &'f Client,
    target: &'f Target,
}

impl<'f> Queued<'f> {
    pub(super) fn new(client: &'f Client, target: &'f Target) -> Self {
        let queued = Self { client, target };
        queued.add(1);
        queued
    }

    fn add(&self, change: i64) {
        self.client.shared.metrics.gateway.add(Gauge::Queued, change);
        self.target.figures.add(Gauge::Queued, change);
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.add(-1);
    }
}
