//! The live hub's outlet: what the console shows before it is stored.

use std::sync::Arc;

use super::outlet::{Fact, Outlet};
use crate::api::{Hub, Update};

/// Publishes facts to the hub.
pub struct Live(pub Arc<Hub>);

impl Outlet for Live {
    fn shows_progress(&self) -> bool {
        true
    }

    fn take(&mut self, fact: &Fact<'_>) {
        match fact {
            Fact::Process(event) => self.0.publish(Update::Process((*event).clone())),
            Fact::Call { call, place, .. } => {
                self.0.publish(Update::Call(call.clone()));
                if let Some(place) = place {
                    self.0.publish(Update::Placement(*place));
                }
            }
            Fact::Dropped(_) | Fact::Encrypted(_) => {}
            Fact::Placed(place) => self.0.publish(Update::Placement(*place)),
            Fact::Turn { turn, .. } => self.0.publish(Update::Turn(turn.clone())),
            Fact::Finding(finding) => self.0.publish(Update::Finding(finding.clone())),
        }
    }
}
