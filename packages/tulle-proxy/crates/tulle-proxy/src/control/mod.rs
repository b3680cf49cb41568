//! The control thread: configuration in, identity kept alive, workers told, signals heard.

pub mod channel;
pub mod identity_file;

use std::io;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tulle_config::store::Generation;
use tulle_config::{Bootstrap, ConfigStore};
use tulle_core::Str;
use tulle_core::metadata::Value;
use tulle_identity::join::JoinConfig;
use tulle_identity::{IdentityCell, TlsContexts, keep_identity};
use tulle_telemetry::Registry;
use tulle_xds::ads::Client;
use tulle_xds::bootstrap::Loaded;
use tulle_xds::driver::{Driver, Event, SharedClient};

use crate::worker::{Launch, Workers};
use identity_file::IdentityFile;

/// What the command line says.
pub struct Options {
    pub loaded: Loaded,
    pub identity: Option<IdentityFile>,
    pub concurrency: usize,
    pub drain: Duration,
    pub log: Log,
}

/// How much is told on standard error.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, clap::ValueEnum)]
pub enum Log {
    Error,
    Warn,
    Info,
    Debug,
}

impl Log {
    /// Writes one line when `level` is asked for.
    pub fn say(self, level: Log, text: impl FnOnce() -> String) {
        if level <= self {
            eprintln!("{level:?}: {}", text());
        }
    }
}

/// Runs the sidecar until a signal ends it.
///
/// # Errors
/// When threads, sockets for signals, or the runtime cannot be had.
pub fn run(options: Options) -> io::Result<ExitCode> {
    let identity = Arc::<IdentityCell>::default();
    let launch = launch(&options, identity.clone());
    let client: SharedClient = Arc::new(Mutex::new(Client::new(&options.loaded.bootstrap)));
    // Static resources are served from the first moment on.
    let statics = client.lock().unwrap_or_else(PoisonError::into_inner).take_update();
    let first = statics.map_or(Generation(0), |config| launch.store.publish(config));
    let workers = Workers::start(&launch, options.concurrency)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let control = Control { launch, client, identity, options: &options };
        control.run(&workers, first).await
    })?;
    // Control goes on no longer: workers finish what is in flight by themselves.
    workers.drain(options.drain);
    workers.join();
    Ok(ExitCode::SUCCESS)
}

fn launch(options: &Options, identity: Arc<IdentityCell>) -> Launch {
    let bootstrap = &options.loaded.bootstrap;
    let seed = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64)
        ^ u64::from(std::process::id()) << 40;
    Launch {
        store: Arc::new(ConfigStore::new()),
        registry: Registry::new(),
        contexts: Arc::new(TlsContexts::new(identity)),
        node: bootstrap.node.clone(),
        principal: principal(bootstrap, options.identity.as_ref()),
        started: Instant::now(),
        seed,
    }
}

/// This workload's SPIFFE id, where the bootstrap and the identity file tell it.
fn principal(bootstrap: &Bootstrap, identity: Option<&IdentityFile>) -> Option<Str> {
    let text = |key: &str| bootstrap.node.metadata.get(key).and_then(Value::as_str);
    let (namespace, account) = (text("NAMESPACE")?, text("SERVICE_ACCOUNT")?);
    Some(format!("spiffe://{}/ns/{namespace}/sa/{account}", identity?.trust_domain).into())
}

struct Control<'o> {
    launch: Launch,
    client: SharedClient,
    identity: Arc<IdentityCell>,
    options: &'o Options,
}

impl Control<'_> {
    async fn run(self, workers: &Workers, first: Generation) -> io::Result<()> {
        let log = self.options.log;
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        for warning in &self.options.loaded.bootstrap.warnings {
            log.say(Log::Warn, || format!("bootstrap: {warning}"));
        }
        for failure in workers.applied(first).await {
            log.say(Log::Error, || failure);
        }
        let identity = self.keep_identity();
        let discovery = self.discover();
        tokio::select! {
            _ = terminate.recv() => log.say(Log::Info, || "SIGTERM: draining".to_owned()),
            _ = interrupt.recv() => log.say(Log::Info, || "SIGINT: draining".to_owned()),
            () = identity => {}
            () = discovery => {}
        }
        Ok(())
    }

    async fn keep_identity(&self) {
        let Some(file) = &self.options.identity else { return std::future::pending().await };
        let log = self.options.log;
        let config: JoinConfig = file.join_config();
        let report = move |event| log.say(Log::Info, || format!("identity: {event:?}"));
        keep_identity(config, self.identity.clone(), self.launch.seed, report).await;
    }

    async fn discover(&self) {
        let Some(ads) = &self.options.loaded.bootstrap.ads else { return std::future::pending().await };
        let log = self.options.log;
        let driver = Driver {
            client: self.client.clone(),
            store: self.launch.store.clone(),
            connect: channel::ControlPlane {
                cluster: ads.cluster.clone(),
                store: self.launch.store.clone(),
                contexts: self.launch.contexts.clone(),
                identity: self.options.identity.is_some().then(|| self.identity.clone()),
            },
            initial_metadata: ads.initial_metadata.clone(),
            epoch: self.launch.started,
            seed: self.launch.seed,
            report: Arc::new(move |event| tell(log, &event)),
        };
        driver.run().await;
    }
}

fn tell(log: Log, event: &Event) {
    match event {
        Event::Connected => log.say(Log::Info, || "control plane: connected".to_owned()),
        Event::Disconnected { reason, retry_in } => {
            log.say(Log::Warn, || format!("control plane: {reason}; again in {retry_in:?}"));
        }
        Event::Response(handled) => {
            for refused in &handled.refused {
                log.say(Log::Warn, || format!("{} refused: {refused}", handled.type_url));
            }
            for warning in &handled.warnings {
                log.say(Log::Info, || format!("{}: {warning}", handled.type_url));
            }
            log.say(Log::Debug, || {
                format!("{}: {} accepted, {} removed", handled.type_url, handled.accepted, handled.removed)
            });
        }
    }
}
