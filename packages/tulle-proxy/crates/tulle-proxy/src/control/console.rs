//! What the admin endpoint asks of the assembly, and its socket.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::ValueEnum;
use tokio::net::TcpListener;
use tulle_config::ConfigStore;
use tulle_core::{Address, Str, UnixNanos};
use tulle_identity::IdentityCell;
use tulle_xds::bootstrap::Loaded;
use tulle_xds::driver::SharedClient;

use super::log::{Level, Log};
use crate::admin::{Admin, Hooks, server};
use crate::worker::hosts::{HostBook, Known};
use crate::worker::{Launch, Status};

#[derive(Clone)]
pub struct Console {
    pub status: Arc<Status>,
    pub store: Arc<ConfigStore>,
    pub hosts: Arc<HostBook>,
    pub log: Log,
    pub drain: Duration,
    pub concurrency: usize,
}

impl Console {
    /// The endpoint's content.
    pub fn admin(
        &self,
        launch: &Launch,
        (client, identity): (&SharedClient, &Arc<IdentityCell>),
        loaded: &Loaded,
    ) -> Arc<Admin> {
        Arc::new(Admin {
            store: launch.store.clone(),
            registry: launch.registry.clone(),
            client: client.clone(),
            identity: identity.clone(),
            node: launch.node.clone(),
            bootstrap: loaded.packed.clone(),
            started: super::wall(),
            hooks: Arc::new(self.clone()),
            breakers: launch.breakers.clone(),
            failed: AtomicBool::new(false),
        })
    }
}

impl Hooks for Console {
    fn bound(&self) -> Vec<(Str, SocketAddr)> {
        self.status.bound()
    }

    fn failures(&self) -> Vec<String> {
        self.status.failures()
    }

    fn applied(&self) -> bool {
        let generation = self.store.generation();
        self.status.has_applied(generation) && self.hosts.ready(generation)
    }

    fn hosts(&self) -> Known {
        self.hosts.known()
    }

    fn draining(&self) -> bool {
        self.status.is_draining()
    }

    fn drain_listeners(&self) {
        self.status.drain(self.drain);
    }

    fn set_log_level(&self, level: &str) -> Result<(), String> {
        let level = Level::from_str(level, true).map_err(|_| "one of error, warn, info, debug".to_owned())?;
        self.log.set(level);
        Ok(())
    }

    fn concurrency(&self) -> usize {
        self.concurrency
    }

    fn now(&self) -> UnixNanos {
        super::wall()
    }
}

/// Serves the endpoint for as long as the process runs.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve(address: &Address, admin: Arc<Admin>) -> io::Result<()> {
    let socket = address.socket().ok_or_else(|| io::Error::other("not an IP address"))?;
    let listener = TcpListener::bind(socket).await?;
    server::serve(listener, admin).await;
    Ok(())
}
