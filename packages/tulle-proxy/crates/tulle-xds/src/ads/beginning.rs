//! What is waited for at the start: the first response of each type, and the first listeners' clusters.

use tulle_config::{Bootstrap, Files, Patience};
use tulle_core::Nanos;

use crate::decode::Kind;

/// The wait for the first response of a type.
#[derive(Clone, Copy, Debug)]
pub struct Unanswered {
    /// When the first stream opened.
    pub since: Option<Nanos>,
    pub patience: Patience,
}

impl Unanswered {
    pub fn is_over(self, now: Nanos) -> bool {
        self.since.is_some_and(|since| self.patience.is_over(since, now))
    }
}

/// What the first listeners wait for, as Envoy's do: so the first requests find their clusters. Where no stream opens,
/// time counts from the start of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// It is not known what clusters there are.
    Clusters,
    /// Those that were known then are not all there.
    Endpoints,
    Over,
}

/// Types of which everything is asked for.
pub fn wildcards(bootstrap: &Bootstrap) -> impl Iterator<Item = (Kind, Unanswered)> {
    let of = |kind, patience: Option<Patience>| patience.map(|patience| (kind, Unanswered { since: None, patience }));
    let ads = bootstrap.ads.iter();
    let ads = ads.flat_map(move |ads| [of(Kind::Cluster, ads.clusters), of(Kind::Listener, ads.listeners)]).flatten();
    let read = Unanswered { since: Some(Nanos::ZERO), patience: Patience::default() };
    let Files { listeners, clusters } = &bootstrap.files;
    let files = [(Kind::Cluster, clusters), (Kind::Listener, listeners)].into_iter();
    ads.chain(files.filter_map(move |(kind, file)| file.is_some().then_some((kind, read))))
}
