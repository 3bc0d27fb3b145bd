//! Libraries that programs make calls with.

use super::Profile;

pub(super) const SDKS: &[Profile] = &[];
