//! `uninstall` and `crd --apply`: what is done to a cluster once.

use std::io::Write as _;
use std::process::ExitCode;

use super::controller::lease_settings;
use super::print;
use crate::api::{crd_json, crd_yaml};
use crate::cli::{Crd, Uninstall};
use crate::leader::{UninstallSettings, apply_crd};
use crate::source::ApiServer;

/// Writes the CustomResourceDefinitions, or applies them.
///
/// # Errors
/// No API server, or one that does not take them.
pub fn crd(crd: &Crd) -> anyhow::Result<ExitCode> {
    if !crd.apply {
        return print(&crd_yaml()?);
    }
    let definition = crd_json()?;
    super::waiting_runtime()?.block_on(async {
        let client = ApiServer::infer().await?.client()?;
        apply_crd(client, &definition, crd.timeout).await?;
        print("CustomResourceDefinition loadbalancers.holdfast.dev: in force\n")
    })
}

/// Takes back all that the controller wrote.
///
/// # Errors
/// No API server. What cannot be taken back is printed, and the exit code is 1.
pub fn uninstall(uninstall: Uninstall) -> anyhow::Result<ExitCode> {
    let Uninstall {
        mut namespace,
        lease,
        timeout,
    } = uninstall;
    namespace.retain(|name| !name.is_empty());
    super::waiting_runtime()?.block_on(async {
        let server = ApiServer::infer().await?;
        let settings = UninstallSettings {
            lease: lease_settings(lease, &server, None),
            namespaces: namespace,
            timeout,
        };
        let client = server.client()?;
        let mut progress = |line: &str| {
            // Nobody may be reading; the work goes on.
            let _ = writeln!(std::io::stdout(), "{line}");
        };
        let left = crate::leader::uninstall(client, &settings, &mut progress).await;
        if left.is_empty() {
            progress("done");
            return Ok(ExitCode::SUCCESS);
        }
        for left in &left {
            progress(&format!("left over: {left}"));
        }
        progress("not everything could be taken back; run it again to go on");
        Ok(ExitCode::FAILURE)
    })
}
