//! The tests of the simulator, in one program: `cargo test -p wavetank-sim --test all planted_bugs::` runs those of one
//! file.

mod barriers;
mod campaign;
mod checkpoint_protocol;
mod corpus;
mod droppers;
mod engine;
mod exhaust;
mod group_state;
mod memory_source;
mod model_conformance;
mod object_store;
mod planted_bugs;
