//! The overload manager's arithmetic (`envoy.config.overload.v3`): from pressure on a resource to how much is shed.

/// When a resource's pressure, from 0 (unused) to 1 (used up), makes an action begin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Trigger {
    /// In full from here on.
    Threshold(f64),
    /// Begins beyond `from` and grows with the pressure until it is full at `full`; `from` < `full`.
    Scaled { from: f64, full: f64 },
}

impl Trigger {
    /// How far the action goes, from 0 (not at all) to 1 (in full).
    pub fn state(self, pressure: f64) -> f64 {
        match self {
            Trigger::Threshold(value) => f64::from(u8::from(pressure >= value)),
            Trigger::Scaled { from, full } => ((pressure - from) / (full - from)).clamp(0.0, 1.0),
        }
    }
}

/// What is done about overload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActionKind {
    /// New requests are answered 503.
    StopAcceptingRequests,
    /// Responses end their connection.
    DisableKeepAlive,
    /// Listeners rest.
    StopAcceptingConnections,
    /// Connections are closed as they come.
    RejectIncomingConnections,
    /// Freed memory is given back to the system.
    ShrinkHeap,
    /// Load-shed points: each refuses a share of what passes it.
    Shed(ShedPoint),
}

/// Where load is shed (`envoy.load_shed_points`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShedPoint {
    /// A connection is accepted.
    Accept,
    /// The first bytes of a connection have come.
    FirstBytes,
    /// A request of HTTP/1 is read: the connection ends with an error.
    Http1,
    /// A request of HTTP/2 is read: the connection takes no further one.
    Http2,
    /// The head of a request has come.
    Head,
    /// A connection to an endpoint is needed.
    Dial,
}

impl ShedPoint {
    /// How many there are.
    pub const COUNT: usize = 6;
}

/// An action and the triggers that begin it, each with the place of its resource among those that are watched.
#[derive(Clone, Debug, PartialEq)]
pub struct Action {
    pub kind: ActionKind,
    pub triggers: Box<[(usize, Trigger)]>,
}

impl Action {
    /// As far as the trigger that goes furthest; `pressures` are those of all resources.
    pub fn state(&self, pressures: &[f64]) -> f64 {
        let each = self.triggers.iter().filter_map(|(at, trigger)| Some(trigger.state(*pressures.get(*at)?)));
        each.fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_and_scales() {
        let scaled = Trigger::Scaled { from: 0.8, full: 0.9 };
        let table = [(0.0, 0.0, 0.0), (0.8, 0.0, 0.0), (0.85, 0.5, 0.0), (0.9, 1.0, 1.0), (40.0, 1.0, 1.0)];
        for (pressure, by_scale, by_threshold) in table {
            assert!((scaled.state(pressure) - by_scale).abs() < 1e-9, "{pressure}");
            assert_eq!(Trigger::Threshold(0.9).state(pressure), by_threshold, "{pressure}");
        }
        let action = Action {
            kind: ActionKind::StopAcceptingRequests,
            triggers: [(0, scaled), (1, Trigger::Threshold(0.82))].into(),
        };
        assert_eq!((action.state(&[0.81, 0.81]), action.state(&[0.81, 0.82])), (scaled.state(0.81), 1.0));
    }
}
