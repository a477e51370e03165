//! `pod`: one of the demo's pods as a process of its own.

use std::process::ExitCode;

use tokio_util::sync::CancellationToken;

use super::controller::given;
use crate::cli::{Pod, PodKind};
use crate::demo::{Identity, Pods};
use crate::shutdown::Signals;
use crate::telemetry;

/// Serves until a signal; then finishes what is under way, for a few seconds at most.
///
/// # Errors
/// An address that cannot be bound.
pub fn pod(pod: Pod) -> anyhow::Result<ExitCode> {
    let Pod {
        kind,
        address,
        pod_name,
        pod_namespace,
        logging,
    } = pod;
    telemetry::start(&logging.log, logging.log_format)?;
    super::waiting_runtime()?.block_on(async {
        let mut signals = Signals::install()?;
        let identity = Identity {
            name: given(pod_name),
            namespace: given(pod_namespace),
        };
        let address = [address];
        let (echo, chat): (&[_], &[_]) = match kind {
            PodKind::Echo => (&address, &[]),
            PodKind::Chat => (&[], &address),
        };
        let pods = Pods::start_as(&identity, echo, chat, CancellationToken::new()).await?;
        for address in pods.addresses() {
            tracing::info!(%address, "listening");
        }
        signals.next().await;
        tracing::info!("ending");
        tokio::select! {
            () = pods.stop() => {}
            () = signals.next() => {}
        }
        Ok(ExitCode::SUCCESS)
    })
}
