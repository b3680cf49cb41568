//! The control thread: configuration in, identity kept alive, workers told, questions answered, signals heard.

pub mod channel;
pub mod console;
pub mod identity_file;
mod kept;
pub mod keys;
pub mod load;
pub mod log;
pub mod material;
pub mod upstreams;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::signal::unix::{SignalKind, signal};
use tulle_config::store::Generation;
use tulle_config::{Bootstrap, ConfigStore};
use tulle_connect::Breakers;
use tulle_core::metadata::Value;
use tulle_core::{Str, UnixNanos};
use tulle_identity::join::JoinConfig;
use tulle_identity::{IdentityCell, TlsContexts, keep_identity};
use tulle_telemetry::Registry;
use tulle_xds::ads::Client;
use tulle_xds::bootstrap::Loaded;
use tulle_xds::driver::{Driver, Event, SharedClient};
use tulle_xds::files::Files;
use tulle_xds::keeping::Keeping;
use tulle_xds::stream::Protocol;

use crate::worker::doors::Doors;
use crate::worker::overload::Overload;
use crate::worker::{Launch, Status, Workers};
use console::Console;
use identity_file::IdentityFile;
use log::{Level, Log};

const HOUSEKEEPING: Duration = Duration::from_secs(2);
/// At which of its ticks start-up is over: the first comes at once.
const STARTED: [u64; 2] = [0, 5];

/// What the command line says.
pub struct Options {
    pub loaded: Loaded,
    pub identity: Option<IdentityFile>,
    /// Where the last accepted configuration is kept; `None`: nowhere.
    pub state: Option<PathBuf>,
    pub concurrency: usize,
    /// The most files that the process may have open.
    pub descriptors: u64,
    pub drain: Duration,
    pub log: Log,
    /// Called when start-up is over, and once more when a control plane has had time to send its configuration.
    pub started: fn(),
    /// Called every few seconds.
    pub idle: fn(),
}

/// The wall clock.
pub fn wall() -> UnixNanos {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixNanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// Runs the sidecar until a signal ends it.
///
/// # Errors
/// When threads, sockets for signals, or the runtime cannot be had.
pub fn run(options: Options) -> io::Result<ExitCode> {
    let identity = Arc::<IdentityCell>::default();
    let launch = launch(&options, identity.clone());
    let mut client = Client::new(&options.loaded.bootstrap);
    client.check_material(Box::new(material::check));
    let client: SharedClient = Arc::new(Mutex::new(client));
    // Static resources are served from the first moment on.
    let statics = client.lock().unwrap_or_else(PoisonError::into_inner).take_update();
    let first = statics.map_or(Generation(0), |config| launch.store.publish(config));
    let workers = Workers::start(&launch, options.concurrency)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let status = workers.status.clone();
    let control = Arc::new(Control { launch, client, identity, status, options });
    runtime.block_on(control.run(workers, first))?;
    Ok(ExitCode::SUCCESS)
}

fn launch(options: &Options, identity: Arc<IdentityCell>) -> Launch {
    let bootstrap = &options.loaded.bootstrap;
    Launch {
        store: Arc::new(ConfigStore::new()),
        registry: Registry::new(),
        contexts: Arc::new(TlsContexts::new(identity)),
        node: bootstrap.node.clone(),
        hosts: Arc::default(),
        breakers: Arc::new(Breakers::for_workers(options.concurrency)),
        overload: bootstrap.overload.clone().map(|manager| Arc::new(Overload::new(manager))),
        doors: Arc::new(Doors::new(bootstrap.overload.as_ref(), &bootstrap.connections, options.descriptors)),
        local_cluster: bootstrap.local_cluster.clone(),
        keys: Arc::default(),
        demands: Arc::default(),
        principal: principal(bootstrap, options.identity.as_ref()),
        started: Instant::now(),
        seed: wall().0 ^ u64::from(std::process::id()) << 40,
    }
}

/// This workload's SPIFFE id, where the bootstrap and the identity file tell it.
fn principal(bootstrap: &Bootstrap, identity: Option<&IdentityFile>) -> Option<Str> {
    let text = |key: &str| bootstrap.node.metadata.get(key).and_then(Value::as_str);
    let (namespace, account) = (text("NAMESPACE")?, text("SERVICE_ACCOUNT")?);
    Some(format!("spiffe://{}/ns/{namespace}/sa/{account}", identity?.trust_domain).into())
}

struct Control {
    launch: Launch,
    client: SharedClient,
    identity: Arc<IdentityCell>,
    status: Arc<Status>,
    options: Options,
}

impl Control {
    async fn run(self: Arc<Self>, workers: Workers, first: Generation) -> io::Result<()> {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let log = &self.options.log;
        for warning in &self.options.loaded.bootstrap.warnings {
            log.say(Level::Warn, || format!("bootstrap: {warning}"));
        }
        self.status.applied(first).await;
        for failure in self.status.failures() {
            log.say(Level::Error, || failure);
        }
        let mut ended = tokio::task::spawn_blocking(move || workers.join());
        let mut stopping = false;
        let (mut housekeeping, mut ticks) = (tokio::time::interval(HOUSEKEEPING), 0u64);
        let (mut identity, mut discovery, mut admin) =
            (Box::pin(self.keep_identity()), Box::pin(self.discover()), Box::pin(self.admin()));
        let mut load = Box::pin(self.watch_load());
        let local = tokio::task::LocalSet::new();
        let watching =
            async { tokio::join!(upstreams::run(&self.launch), keys::run(&self.launch, log), self.files().run()) };
        let mut upstreams = Box::pin(local.run_until(watching));
        loop {
            tokio::select! {
                _ = terminate.recv(), if !stopping => {
                    stopping = true;
                    self.stop("SIGTERM");
                }
                _ = interrupt.recv(), if !stopping => {
                    stopping = true;
                    self.stop("SIGINT");
                }
                _ = housekeeping.tick() => {
                    if STARTED.contains(&ticks) { (self.options.started)() } else { (self.options.idle)() }
                    ticks += 1;
                }
                _ = &mut ended, if stopping => return Ok(()),
                () = &mut identity => {}
                () = &mut discovery => {}
                () = &mut admin => {}
                () = &mut load => {}
                _ = &mut upstreams => {}
            }
        }
    }

    /// Sheds load when there is too much.
    async fn watch_load(&self) {
        let Some(overload) = &self.launch.overload else { return std::future::pending().await };
        load::watch(overload, &self.options.log, self.options.idle).await;
    }

    fn stop(&self, signal: &str) {
        self.options.log.say(Level::Info, || format!("{signal}: draining"));
        self.status.drain(self.options.drain);
    }

    async fn keep_identity(&self) {
        let config: Option<JoinConfig> = self.options.identity.as_ref().and_then(IdentityFile::join_config);
        let Some(config) = config else { return std::future::pending().await };
        let log = self.options.log.clone();
        let report = move |event: tulle_identity::join::Event| {
            let level = match (event.is_good(), event.is_alarm()) {
                (true, _) => Level::Info,
                (false, false) => Level::Warn,
                (false, true) => Level::Error,
            };
            log.say(level, || format!("identity: {event}"));
        };
        keep_identity(config, self.identity.clone(), self.launch.seed, report).await;
    }

    async fn discover(&self) {
        let Some(ads) = &self.options.loaded.bootstrap.ads else { return std::future::pending().await };
        let log = self.options.log.clone();
        let driver = Driver {
            demands: self.launch.demands.clone(),
            client: self.client.clone(),
            store: self.launch.store.clone(),
            connect: channel::ControlPlane {
                cluster: ads.cluster.clone(),
                store: self.launch.store.clone(),
                contexts: self.launch.contexts.clone(),
                identity: self.options.identity.is_some().then(|| self.identity.clone()),
                attempts: AtomicUsize::new(0),
            },
            protocol: Protocol::new(ads.variant),
            initial_metadata: ads.initial_metadata.clone(),
            epoch: self.launch.started,
            seed: self.launch.seed,
            report: Arc::new(move |event| tell(&log, &event)),
            keeping: self.options.state.as_deref().map(|folder| Keeping::new(kept::disk(folder, &self.launch.node))),
        };
        driver.run().await;
    }

    /// What lies in files, and does not need a control plane.
    fn files(&self) -> Files {
        let log = self.options.log.clone();
        Files {
            client: self.client.clone(),
            store: self.launch.store.clone(),
            epoch: self.launch.started,
            report: Arc::new(move |event| tell(&log, &event)),
        }
    }

    /// Answers on the admin address, when there is one.
    async fn admin(&self) {
        let Some(address) = &self.options.loaded.bootstrap.admin else { return std::future::pending().await };
        let console = Console {
            status: self.status.clone(),
            store: self.launch.store.clone(),
            hosts: self.launch.hosts.clone(),
            log: self.options.log.clone(),
            drain: self.options.drain,
            concurrency: self.options.concurrency,
        };
        let admin = console.admin(&self.launch, (&self.client, &self.identity), &self.options.loaded);
        if let Err(e) = console::serve(address, admin).await {
            self.options.log.say(Level::Error, || format!("admin endpoint on {address}: {e}"));
        }
        std::future::pending().await
    }
}

fn tell(log: &Log, event: &Event) {
    match event {
        Event::Connected => log.say(Level::Info, || "control plane: connected".to_owned()),
        Event::Disconnected { reason, retry_in } => {
            log.say(Level::Warn, || format!("control plane: {reason}; again in {retry_in:?}"));
        }
        Event::Saved { size } => log.say(Level::Debug, || format!("configuration: kept on disk, {size} bytes")),
        Event::NotSaved(reason) => log.say(Level::Warn, || format!("configuration: not kept on disk: {reason}")),
        Event::Restored { resources } => log.say(Level::Warn, || {
            format!("configuration: the one kept on disk is in force ({resources} resources), without a control plane")
        }),
        Event::NotRestored(reason) => {
            log.say(Level::Error, || format!("configuration: what is kept on disk is not used: {reason}"));
        }
        Event::Response(handled) => {
            for refused in &handled.refused {
                log.say(Level::Warn, || format!("{} refused: {refused}", handled.type_url));
            }
            for warning in &handled.warnings {
                log.say(Level::Info, || format!("{}: {warning}", handled.type_url));
            }
            log.say(Level::Debug, || {
                format!("{}: {} accepted, {} removed", handled.type_url, handled.accepted, handled.removed)
            });
        }
    }
}
