//! Endpoints and their state that outlives snapshots.
