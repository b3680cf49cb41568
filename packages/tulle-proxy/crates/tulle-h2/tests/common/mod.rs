//! Heads as plain lists, and an engine joined to a peer in memory.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::sync::Arc;
use std::task::{Wake, Waker};

use tulle_h2::{Config, Engine, Fields, Pseudo};

pub const CONFIG: Config = Config {
    stream_window: 65_535,
    connection_window: 131_070,
    max_streams: 10,
    header_list: 16_384,
    extended_connect: true,
};

#[derive(Default, Debug, Clone, PartialEq, Eq)]
pub struct List(pub Vec<(String, String)>);

impl List {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Fields for List {
    fn class(_: &[u8]) -> u8 {
        0
    }

    fn pseudo(&mut self, which: Pseudo, value: &[u8]) {
        self.0.push((format!(":{which:?}").to_lowercase(), text(value)));
    }

    fn field(&mut self, _: u8, name: &[u8], value: &[u8]) {
        self.0.push((text(name), text(value)));
    }

    fn complete(&mut self) {}

    fn clear(&mut self) {
        self.0.clear();
    }
}

struct Nobody;

impl Wake for Nobody {
    fn wake(self: Arc<Self>) {}
}

pub fn waker() -> Waker {
    Waker::from(Arc::new(Nobody))
}

/// Moves bytes between two engines until both are quiet, `step` bytes at a time.
pub fn exchange(a: &mut Engine<List>, b: &mut Engine<List>, step: usize) {
    while !a.output().is_empty() || !b.output().is_empty() {
        pass(a, b, step);
        pass(b, a, step);
    }
}

pub fn pass(from: &mut Engine<List>, to: &mut Engine<List>, step: usize) {
    while !from.output().is_empty() {
        let part = from.output()[..step.min(from.output().len())].to_vec();
        from.advance(part.len());
        to.receive(&part, || 0);
    }
}
