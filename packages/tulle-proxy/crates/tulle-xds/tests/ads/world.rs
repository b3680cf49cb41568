//! The state-of-the-world protocol as transcripts: the same client, spoken to in the other way.

use envoy_types::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use tulle_xds::ads::Handled;
use tulle_xds::ads::world::World;
use tulle_xds::decode::{Kind, type_name};

use super::{Bench, cluster, endpoints, listener, route};

struct Spoken {
    bench: Bench,
    world: World,
    number: u32,
}

impl Spoken {
    fn connected() -> Spoken {
        Spoken { bench: Bench::connected(), world: World::default(), number: 0 }
    }

    fn requests(&mut self) -> Vec<String> {
        let requests = std::iter::from_fn(|| self.bench.client.next_request());
        requests.map(|request| line(&self.world.request(request))).collect()
    }

    fn receive(&mut self, kind: Kind, resources: Vec<super::files::Named>) -> Handled {
        self.number += 1;
        let response = DiscoveryResponse {
            version_info: format!("v{}", self.number),
            nonce: format!("n{}", self.number),
            type_url: kind.type_url().to_owned(),
            resources: resources.into_iter().map(|(_, any)| any).collect(),
            ..Default::default()
        };
        let delta = self.world.response(response);
        self.bench.client.receive(delta, self.bench.now)
    }
}

fn line(request: &DiscoveryRequest) -> String {
    let mut text = type_name(&request.type_url).rsplit('.').next().unwrap().to_owned();
    if request.error_detail.is_some() {
        text += " NACK";
    }
    for part in [&request.version_info, &request.response_nonce] {
        text += if part.is_empty() { " -" } else { " " };
        text += part;
    }
    for name in &request.resource_names {
        text += &format!(" +{name}");
    }
    text
}

#[test]
fn everything_wanted_is_said_each_time() {
    let mut spoken = Spoken::connected();
    assert_eq!(spoken.requests(), ["Cluster - -", "Listener - -"]);
    spoken.receive(Kind::Cluster, vec![cluster("a", "1s"), cluster("b", "1s")]);
    assert_eq!(spoken.requests(), ["ClusterLoadAssignment - - +a +b", "Cluster v1 n1"]);
    spoken.receive(Kind::Endpoints, vec![endpoints("a", 1)]);
    assert_eq!(spoken.requests(), ["ClusterLoadAssignment v2 n2 +a +b"]);
    spoken.receive(Kind::Endpoints, vec![endpoints("b", 1)]);
    spoken.receive(Kind::Listener, vec![listener("out", "r")]);
    assert_eq!(spoken.requests(), ["RouteConfiguration - - +r", "ClusterLoadAssignment v3 n3 +a +b", "Listener v4 n4"],);
    spoken.receive(Kind::Route, vec![route("r", 200)]);
    spoken.bench.refresh();
    assert_eq!(spoken.bench.names(), (vec!["out"], vec!["a", "b", "xds-grpc"]));
    assert_eq!(spoken.bench.config.endpoints.len(), 2, "what a response does not have stays");

    // What is not among all clusters any more has gone; a name beside them is asked for beside them.
    let handled = spoken.receive(Kind::Cluster, vec![cluster("b", "1s")]);
    assert_eq!((handled.accepted, handled.removed), (1, 1));
    spoken.bench.client.demand(["c".into()], spoken.bench.now);
    assert_eq!(
        spoken.requests(),
        ["Cluster v6 n6 +* +c", "ClusterLoadAssignment v3 n3 +b", "RouteConfiguration v5 n5 +r"],
    );
}

#[test]
fn what_is_refused_keeps_the_version_that_was_taken() {
    let mut spoken = Spoken::connected();
    spoken.requests();
    spoken.receive(Kind::Cluster, vec![cluster("a", "1s")]);
    spoken.requests();
    let (name, mut broken) = cluster("b", "1s");
    broken.value.push(0xff);
    let handled = spoken.receive(Kind::Cluster, vec![cluster("a", "2s"), (name, broken)]);
    assert_eq!((handled.accepted, handled.refused.len()), (1, 1));
    assert_eq!(spoken.requests(), ["Cluster NACK v1 n2"]);

    // A new stream says which version is held.
    spoken.world.reset();
    spoken.bench.client.connected(spoken.bench.now);
    assert_eq!(spoken.requests(), ["Cluster v1 -", "ClusterLoadAssignment - - +a", "Listener - -"]);
}
