//! What the process watches of itself, and what it does before it is overwhelmed (`envoy.config.overload.v3`).

use std::time::Duration;

use tulle_policy::overload::Action;

#[derive(Clone, Debug, PartialEq)]
pub struct OverloadManager {
    /// How often they are looked at; never zero.
    pub refresh: Duration,
    /// What is watched; triggers name them by their place here.
    pub monitors: Box<[Monitor]>,
    /// Connections from clients, of all listeners; those beyond are closed as they come.
    pub max_connections: Option<u64>,
    pub actions: Box<[Action]>,
}

/// A resource that may be used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Monitor {
    /// The process's memory, a share of so many bytes.
    Heap(u64),
    /// The memory of its control group, a share of the group's limit and of so many bytes, whichever is less.
    Cgroup(Option<u64>),
}
