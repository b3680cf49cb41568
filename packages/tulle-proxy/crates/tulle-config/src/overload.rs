//! What the process watches of itself, and what it does before it is overwhelmed (`envoy.config.overload.v3`).

use std::time::Duration;

use tulle_policy::overload::Action;

#[derive(Clone, Debug, PartialEq)]
pub struct OverloadManager {
    /// How often memory is looked at; never zero.
    pub refresh: Duration,
    /// What memory in use is a share of, in bytes; `None`: it is not watched, and nothing is triggered.
    pub max_heap: Option<u64>,
    /// Connections from clients, of all listeners; those beyond are closed as they come.
    pub max_connections: Option<u64>,
    pub actions: Box<[Action]>,
}
