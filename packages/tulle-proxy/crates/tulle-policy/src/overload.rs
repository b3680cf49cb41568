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
}

/// An action and the triggers that begin it, all of them about memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Action {
    pub kind: ActionKind,
    pub triggers: Box<[Trigger]>,
}

impl Action {
    /// As far as the trigger that goes furthest.
    pub fn state(&self, pressure: f64) -> f64 {
        self.triggers.iter().map(|trigger| trigger.state(pressure)).fold(0.0, f64::max)
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
        let action =
            Action { kind: ActionKind::StopAcceptingRequests, triggers: [scaled, Trigger::Threshold(0.82)].into() };
        assert_eq!((action.state(0.81), action.state(0.82)), (scaled.state(0.81), 1.0));
    }
}
