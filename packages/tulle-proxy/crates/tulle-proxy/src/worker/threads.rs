//! The worker threads: started once, each with its own single-threaded runtime, told when to swap configuration and
//! when to drain.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tulle_config::store::Generation;
use tulle_config::{ConfigStore, Node};
use tulle_core::Str;
use tulle_identity::TlsContexts;
use tulle_listen::ListenerSet;
use tulle_telemetry::Registry;

use super::Worker;
use crate::serve;

/// How often pools are looked over.
const SWEEP: Duration = Duration::from_secs(1);
/// How long a draining worker goes on accepting, so that connections already in the kernel's queue are not reset.
const LINGER: Duration = Duration::from_millis(100);

/// What workers start from.
#[derive(Clone)]
pub struct Launch {
    pub store: Arc<ConfigStore>,
    pub registry: Registry,
    pub contexts: Arc<TlsContexts>,
    pub node: Node,
    /// This workload's SPIFFE id, for metrics.
    pub principal: Option<Str>,
    pub started: Instant,
    /// Differs between processes.
    pub seed: u64,
}

/// What a worker's thread tells the others.
#[derive(Default)]
struct Board {
    bound: Mutex<HashMap<Str, SocketAddr>>,
    failures: Mutex<Vec<String>>,
    applied: Mutex<Option<Generation>>,
}

/// All worker threads.
pub struct Workers {
    threads: Vec<JoinHandle<()>>,
    boards: Vec<Arc<Board>>,
    drain: watch::Sender<Option<Duration>>,
    changed: Arc<Notify>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Workers {
    /// Starts `count` workers.
    pub fn start(launch: &Launch, count: usize) -> io::Result<Workers> {
        let (drain, _) = watch::channel(None);
        let changed = Arc::new(Notify::new());
        let mut workers = Workers { threads: Vec::new(), boards: Vec::new(), drain, changed };
        for index in 0..count {
            let wake = Arc::new(Notify::new());
            let waking = wake.clone();
            launch.store.on_publish(move || waking.notify_one());
            let board = Arc::<Board>::default();
            workers.boards.push(board.clone());
            let (launch, told, changed) = (launch.clone(), workers.drain.subscribe(), workers.changed.clone());
            let run = move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().event_interval(61).build();
                match runtime {
                    Ok(runtime) => {
                        let local = tokio::task::LocalSet::new();
                        let life = Life { launch, wake, told, board, changed };
                        local.block_on(&runtime, life.run(index as u64));
                    }
                    Err(e) => eprintln!("worker {index}: no runtime: {e}"),
                }
            };
            workers.threads.push(std::thread::Builder::new().name(format!("worker-{index}")).spawn(run)?);
        }
        Ok(workers)
    }

    /// Waits until every worker has applied `generation`, and gives back what could not be bound.
    pub async fn applied(&self, generation: Generation) -> Vec<String> {
        loop {
            let notified = self.changed.notified();
            if self.boards.iter().all(|board| locked(&board.applied).is_some_and(|at| at >= generation)) {
                return self.boards.iter().flat_map(|board| locked(&board.failures).clone()).collect();
            }
            notified.await;
        }
    }

    /// The address that a listener is bound to.
    pub fn address(&self, listener: &str) -> Option<SocketAddr> {
        self.boards.iter().find_map(|board| locked(&board.bound).get(listener).copied())
    }

    /// Ends the workers: nothing new is accepted, what is in flight may finish within `limit`.
    pub fn drain(&self, limit: Duration) {
        self.drain.send_replace(Some(limit));
    }

    /// Waits for the threads to end.
    pub fn join(self) {
        for thread in self.threads {
            if thread.join().is_err() {
                eprintln!("a worker ended by a panic");
            }
        }
    }
}

struct Life {
    launch: Launch,
    wake: Arc<Notify>,
    told: watch::Receiver<Option<Duration>>,
    board: Arc<Board>,
    changed: Arc<Notify>,
}

impl Life {
    async fn run(self, index: u64) {
        let worker = Worker::new(&self.launch, self.launch.seed.wrapping_add(index));
        let serving = worker.clone();
        let mut listeners = ListenerSet::new(move |accepted| serve::accepted(&serving, accepted));
        let mut seen = self.launch.store.generation();
        self.apply(&worker, &mut listeners, seen);
        let mut told = self.told.clone();
        let mut sweep = tokio::time::interval(SWEEP);
        let limit = loop {
            tokio::select! {
                () = self.wake.notified() => {
                    if let Some(config) = self.launch.store.load_newer(&mut seen) {
                        worker.apply(config);
                        self.apply(&worker, &mut listeners, seen);
                    }
                }
                _ = sweep.tick() => worker.sweep(),
                limit = told.wait_for(Option::is_some) => {
                    break limit.map_or(None, |limit| *limit).unwrap_or_default();
                }
            }
        };
        self.end(&worker, listeners, limit).await;
    }

    fn apply(&self, worker: &Rc<Worker>, listeners: &mut ListenerSet, seen: Generation) {
        let failed = listeners.apply(&worker.config().listeners);
        *locked(&self.board.failures) = failed.iter().map(ToString::to_string).collect();
        *locked(&self.board.bound) = listeners.addresses().map(|(name, at)| (name.clone(), at)).collect();
        *locked(&self.board.applied) = Some(seen);
        self.changed.notify_waiters();
    }

    /// Drains: connections learn of it at once, the sockets stay for a moment longer.
    async fn end(&self, worker: &Rc<Worker>, mut listeners: ListenerSet, limit: Duration) {
        let deadline = tokio::time::Instant::now() + limit;
        worker.drain.begin();
        tokio::time::sleep(LINGER.min(limit)).await;
        listeners.close();
        // Late connections are served too, each with one answer and a close; at the limit what is left is cut.
        let _cut = tokio::time::timeout_at(deadline, worker.drain.emptied()).await;
        worker.logs.flush();
    }
}
