//! What agents do, and the turns that must come out: with all headers, without any, and without processes and shared
//! connections too.

#[path = "../turn_world/mod.rs"]
mod turn_world;

mod adversity;
mod boundaries;
mod sessions;
mod side_calls;
mod sub_agents;
