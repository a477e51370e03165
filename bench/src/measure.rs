//! The measures, each of which gives rows of the report.

pub(crate) mod changes;
pub(crate) mod footprint;
pub(crate) mod keepalive;
pub(crate) mod memory;
pub(crate) mod processor;
pub(crate) mod served;
mod workload;
