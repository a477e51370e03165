//! Clients that go on for as long as a test lasts, and write down what becomes of them.

mod fleet;
mod requests;

pub(crate) use fleet::{Ending, Fleet, How};
pub(crate) use requests::Requests;
