//! The gRPC client under the state machine: one stream at a time, reopened with back-off for as long as the process runs.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tonic::Code;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};
use tonic::transport::Channel;
use tulle_config::ConfigStore;
use tulle_core::{Nanos, Rng, Str};
use tulle_policy::Backoff;

use crate::ads::{Client, Handled};
use crate::demands::Demands;
use crate::keeping::Keeping;
use crate::stream::{Protocol, Sender};

/// Between attempts: quick at first, so that a restarted control plane is found at once, and spread by jitter so that
/// a thousand proxies do not find it in the same instant.
const BACKOFF: Backoff = Backoff { base: Duration::from_millis(200), max: Duration::from_secs(5) };
/// A stream that lived this long counts as success: the next failure starts the back-off anew.
const STABLE: Duration = Duration::from_secs(10);

/// What happens on the way, for the log and the metrics.
#[derive(Debug)]
pub enum Event {
    Connected,
    /// The reason as gRPC gives it, and how long until the next attempt.
    Disconnected {
        reason: String,
        retry_in: Duration,
    },
    Response(Handled),
    /// The configuration is on disk.
    Saved {
        size: usize,
    },
    NotSaved(String),
    /// The configuration that an earlier process kept is in force.
    Restored {
        resources: usize,
    },
    NotRestored(String),
}

/// Makes channels to the control plane. Each attempt asks for a new one, so that it uses the current certificate.
pub trait Connect {
    /// Opens a connection, or says why not.
    fn connect(&self) -> impl Future<Output = Result<Channel, String>>;

    /// Whether there is an identity to serve with: a configuration from disk is of no use without.
    fn identified(&self) -> bool;
}

/// The client as shared by the driver and the admin endpoint.
pub type SharedClient = Arc<Mutex<Client>>;

/// Runs the discovery client of one proxy.
pub struct Driver<C> {
    pub client: SharedClient,
    pub store: Arc<ConfigStore>,
    pub connect: C,
    pub protocol: Protocol,
    pub initial_metadata: Vec<(Str, Str)>,
    /// What requests ask for.
    pub demands: Arc<Demands>,
    /// Where [`Nanos`] count from.
    pub epoch: Instant,
    /// Seeds the back-off's jitter.
    pub seed: u64,
    pub report: Arc<dyn Fn(Event) + Send + Sync>,
    /// `None`: nothing is kept on disk.
    pub keeping: Option<Keeping>,
}

impl<C: Connect> Driver<C> {
    /// Publishes what is known already (static resources), then keeps a stream open for ever.
    pub async fn run(self) {
        self.publish();
        if self.keeping.is_some() {
            self.client().keep();
        }
        tokio::join!(self.discover(), self.keep());
    }

    async fn discover(&self) {
        let mut rng = Rng::seeded(self.seed);
        let mut failures = 0;
        loop {
            let opened = Instant::now();
            self.heard();
            let ended = tokio::select! {
                ended = self.stream() => ended,
                () = self.impatience() => Err(End::Away("the control plane says nothing".to_owned())),
                () = self.lost() => Err(End::Away("everything is to be sent again".to_owned())),
            };
            let reason = match ended {
                Ok(()) => "the control plane closed the stream".to_owned(),
                Err(End::Away(reason)) => reason,
                Err(End::Refused(reason)) => {
                    self.turned_away();
                    reason
                }
            };
            self.fall_back();
            failures = if opened.elapsed() > STABLE { 1 } else { failures + 1 };
            let retry_in = BACKOFF.wait(failures, &mut rng);
            (self.report)(Event::Disconnected { reason, retry_in });
            self.sleep(retry_in).await;
        }
    }

    /// Sleeps, and still lets warming time out: a deadline does not wait for the control plane to come back.
    async fn sleep(&self, time: Duration) {
        self.meanwhile(tokio::time::sleep(time)).await;
    }

    /// Waits, and does what has to be done without a stream.
    async fn meanwhile<T>(&self, wait: impl Future<Output = T>) -> T {
        let mut wait = std::pin::pin!(wait);
        loop {
            tokio::select! {
                done = &mut wait => return done,
                () = self.deadline() => self.tick(),
                () = self.demands.asked() => self.ask(),
            }
        }
    }

    async fn stream(&self) -> Result<(), End> {
        let channel = self.meanwhile(self.connect.connect()).await.map_err(End::Away)?;
        let (sender, call) = self.protocol.stream();
        // The first requests go out with the call itself: some servers answer its headers only after a message.
        self.client().connected(self.now());
        self.send_pending(&sender)?;
        let mut metadata = MetadataMap::new();
        for (key, value) in &self.initial_metadata {
            let key = AsciiMetadataKey::from_bytes(key.as_bytes()).map_err(|error| End::Away(error.to_string()))?;
            let value = AsciiMetadataValue::try_from(&**value).map_err(|error| End::Away(error.to_string()))?;
            metadata.insert(key, value);
        }
        let mut responses = self.opened(call.open(channel, metadata), &sender).await?;
        (self.report)(Event::Connected);
        loop {
            tokio::select! {
                response = responses.message() => match response.map_err(|status| end(&status))? {
                    Some(response) => {
                        self.heard();
                        let handled = self.client().receive(response, self.now());
                        self.publish();
                        (self.report)(Event::Response(handled));
                    }
                    None => return Ok(()),
                },
                () = self.deadline() => self.tick(),
                () = self.demands.asked() => self.ask(),
            }
            self.send_pending(&sender)?;
        }
    }

    /// Waits for the call's headers. A server may hold them back until it has something to say, which can be the answer
    /// to what is asked for only now.
    async fn opened<T>(
        &self,
        call: impl Future<Output = Result<T, tonic::Status>>,
        sender: &Sender<'_>,
    ) -> Result<T, End> {
        let mut call = std::pin::pin!(call);
        loop {
            tokio::select! {
                opened = &mut call => return opened.map_err(|status| end(&status)),
                () = self.deadline() => self.tick(),
                () = self.demands.asked() => self.ask(),
            }
            self.send_pending(sender)?;
        }
    }

    fn send_pending(&self, sender: &Sender<'_>) -> Result<(), End> {
        let mut client = self.client();
        while let Some(request) = client.next_request() {
            if !sender.send(request) {
                return Err(End::Away("the stream is closed".to_owned()));
            }
        }
        Ok(())
    }

    async fn deadline(&self) {
        let next = self.client().next_deadline();
        match next {
            Some(Nanos(at)) => tokio::time::sleep_until((self.epoch + Duration::from_nanos(at)).into()).await,
            None => std::future::pending().await,
        }
    }

    fn tick(&self) {
        self.client().tick(self.now());
        self.publish();
    }

    /// Asks for what requests need.
    fn ask(&self) {
        self.client().demand(self.demands.take(), self.now());
        self.publish();
    }

    fn heard(&self) {
        if let Some(keeping) = &self.keeping {
            keeping.heard();
        }
    }

    pub(crate) fn publish(&self) {
        let update = self.client().take_update();
        if let Some(config) = update {
            self.store.publish(config);
        }
        if let Some(keeping) = &self.keeping {
            keeping.poke();
        }
    }

    pub(crate) fn now(&self) -> Nanos {
        Nanos(u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    pub(crate) fn client(&self) -> std::sync::MutexGuard<'_, Client> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a stream ended.
enum End {
    /// The control plane cannot be reached, or cannot answer now.
    Away(String),
    /// It is there and wants nothing to do with this proxy.
    Refused(String),
}

fn end(status: &tonic::Status) -> End {
    let text = format!("{:?}: {}", status.code(), status.message());
    match status.code() {
        Code::PermissionDenied | Code::Unauthenticated | Code::InvalidArgument | Code::Unimplemented => {
            End::Refused(text)
        }
        _ => End::Away(text),
    }
}
