//! The worker threads: started once, each with its own single-threaded runtime, told when to swap configuration and
//! when to drain.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tulle_config::store::Generation;
use tulle_config::{ConfigStore, Node};
use tulle_connect::Breakers;
use tulle_core::Str;
use tulle_identity::TlsContexts;
use tulle_listen::ListenerSet;
use tulle_telemetry::Registry;
use tulle_xds::demands::Demands;

use super::Worker;
use super::alarm::Alarm;
use super::clock;
use super::doors::Doors;
use super::hosts::HostBook;
use super::keys::KeyBook;
use super::overload::Overload;
use crate::serve;

/// How often pools are looked over, and outlier detection is that had nothing to do.
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
    pub hosts: Arc<HostBook>,
    pub breakers: Arc<Breakers>,
    pub overload: Option<Arc<Overload>>,
    pub doors: Arc<Doors>,
    /// The cluster of the proxies like this one, for zone-aware routing.
    pub local_cluster: Option<Str>,
    pub keys: Arc<KeyBook>,
    /// What requests ask of the control plane.
    pub demands: Arc<Demands>,
    /// This workload's SPIFFE id, for metrics.
    pub principal: Option<Str>,
    pub started: Instant,
    /// Differs between processes.
    pub seed: u64,
}

/// What one worker has told.
#[derive(Default)]
struct Board {
    bound: Mutex<HashMap<Str, SocketAddr>>,
    failures: Mutex<Vec<String>>,
    applied: Mutex<Option<Generation>>,
}

/// What the workers have told, and the way to tell them to drain. Shared with the control thread's parts.
pub struct Status {
    boards: Vec<Board>,
    drain: watch::Sender<Option<Duration>>,
    changed: Notify,
}

/// All worker threads.
pub struct Workers {
    threads: Vec<JoinHandle<()>>,
    pub status: Arc<Status>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Workers {
    /// Starts `count` workers.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(launch: &Launch, count: usize) -> io::Result<Workers> {
        let boards = (0..count).map(|_| Board::default()).collect();
        let status = Arc::new(Status { boards, drain: watch::channel(None).0, changed: Notify::new() });
        let mut workers = Workers { threads: Vec::new(), status: status.clone() };
        for index in 0..count {
            let wake = Arc::new(Notify::new());
            let waking = wake.clone();
            launch.store.on_publish(move || waking.notify_one());
            let told = status.drain.subscribe();
            let life = Life { launch: launch.clone(), wake, told, status: status.clone(), index };
            let thread = std::thread::Builder::new().name(format!("worker-{index}"));
            workers.threads.push(thread.spawn(move || life.thread())?);
        }
        Ok(workers)
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

impl Status {
    /// Whether every worker runs on `generation` or a later one.
    pub fn has_applied(&self, generation: Generation) -> bool {
        self.boards.iter().all(|board| locked(&board.applied).is_some_and(|at| at >= generation))
    }

    /// Waits until every worker has applied `generation`.
    pub async fn applied(&self, generation: Generation) {
        loop {
            let notified = self.changed.notified();
            if self.has_applied(generation) {
                return;
            }
            notified.await;
        }
    }

    /// What could not be bound, each listener once.
    pub fn failures(&self) -> Vec<String> {
        let mut all: Vec<String> = self.boards.iter().flat_map(|board| locked(&board.failures).clone()).collect();
        all.sort();
        all.dedup();
        all
    }

    /// Bound listeners with their addresses, in order of name.
    pub fn bound(&self) -> Vec<(Str, SocketAddr)> {
        let mut all: Vec<(Str, SocketAddr)> = self
            .boards
            .iter()
            .flat_map(|board| locked(&board.bound).iter().map(|(name, at)| (name.clone(), *at)).collect::<Vec<_>>())
            .collect();
        all.sort();
        all.dedup();
        all
    }

    /// Ends the workers: nothing new is accepted, what is in flight may finish within `limit`.
    pub fn drain(&self, limit: Duration) {
        self.drain.send_replace(Some(limit));
    }

    pub fn is_draining(&self) -> bool {
        self.drain.borrow().is_some()
    }
}

/// Whether listeners are to rest, when that has changed; `None` when it never will.
async fn changed(rest: &mut Option<watch::Receiver<bool>>) -> Option<bool> {
    let rest = rest.as_mut()?;
    rest.changed().await.ok()?;
    Some(*rest.borrow_and_update())
}

struct Life {
    launch: Launch,
    wake: Arc<Notify>,
    told: watch::Receiver<Option<Duration>>,
    status: Arc<Status>,
    index: usize,
}

impl Life {
    fn thread(self) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().on_thread_unpark(clock::next_turn);
        match runtime.build() {
            Ok(runtime) => {
                let local = tokio::task::LocalSet::new();
                // As a task like the others: what is blocked on is polled at every turn of the loop, whatever woke it.
                let life = local.spawn_local(self.run());
                if let Err(e) = local.block_on(&runtime, life) {
                    eprintln!("a worker ended early: {e}");
                }
            }
            Err(e) => eprintln!("worker {}: no runtime: {e}", self.index),
        }
    }

    async fn run(self) {
        let worker = Worker::new(&self.launch, self.launch.seed.wrapping_add(self.index as u64));
        let serving = worker.clone();
        let mut listeners = ListenerSet::new(move |accepted| serve::accepted(&serving, accepted));
        let mut seen = self.launch.store.generation();
        self.apply(&worker, &mut listeners, seen);
        let mut told = self.told.clone();
        let mut hosts = self.launch.hosts.subscribe();
        hosts.mark_changed();
        let mut keys = self.launch.keys.subscribe();
        keys.mark_changed();
        let mut rest = self.launch.overload.as_ref().map(|overload| overload.rest());
        rest.iter_mut().for_each(watch::Receiver::mark_changed);
        let mut sweep = tokio::time::interval(SWEEP);
        let mut alarm = Alarm::default();
        let limit = loop {
            let due = worker.next_tick().map(|due| worker.clock.instant_of(due));
            tokio::select! {
                () = self.wake.notified() => {
                    if let Some(config) = self.launch.store.load_newer(&mut seen) {
                        worker.apply(config);
                        self.apply(&worker, &mut listeners, seen);
                    }
                }
                Ok(()) = hosts.changed() => {
                    let known = hosts.borrow_and_update().clone();
                    worker.learn(known);
                }
                Ok(()) = keys.changed() => worker.keys.learn(keys.borrow_and_update().clone()),
                Some(resting) = changed(&mut rest) => listeners.rest(resting),
                _ = sweep.tick() => worker.sweep(),
                () = poll_fn(|cx| alarm.poll(cx, due)) => worker.tick(),
                () = worker.ejected() => {}
                limit = told.wait_for(Option::is_some) => {
                    break limit.map_or(None, |limit| *limit).unwrap_or_default();
                }
            }
        };
        self.end(&worker, listeners, limit).await;
    }

    fn apply(&self, worker: &Rc<Worker>, listeners: &mut ListenerSet, seen: Generation) {
        let failed = listeners.apply(&worker.config().listeners);
        let board = &self.status.boards[self.index];
        *locked(&board.failures) = failed.iter().map(ToString::to_string).collect();
        *locked(&board.bound) = listeners.addresses().map(|(name, at)| (name.clone(), at)).collect();
        *locked(&board.applied) = Some(seen);
        self.status.changed.notify_waiters();
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
