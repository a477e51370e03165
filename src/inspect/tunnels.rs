//! Open WebSockets, for people.

use serde_json::Value;

use super::columns::Columns;
use crate::api::GatewayDuration;

/// The list that the admin port gives, in columns. `None` where it is not one.
#[must_use]
pub fn text(list: &Value) -> Option<String> {
    let selected = list["selected"].as_u64()?;
    let tunnels = list["tunnels"].as_array()?;
    let mut columns = Columns::new(0);
    columns.row([
        "ID", "AGE", "SILENT", "CLIENT", "POD", "MESSAGES", "BYTES", "RTT", "ENDING", "ROUTE",
    ]);
    for tunnel in tunnels {
        columns.row(row(tunnel)?);
    }
    let mut text = columns.to_string();
    let shown = tunnels.len() as u64;
    if shown < selected {
        text.push_str(&format!("and {} more\n", selected - shown));
    }
    Some(text)
}

fn row(tunnel: &Value) -> Option<Vec<String>> {
    let both = |what: &str| {
        let count = |side: &str| tunnel[side][what].as_u64();
        Some(format!("{}/{}", count("fromClient")?, count("fromPod")?))
    };
    let trips = ["clientRoundTripSeconds", "podRoundTripSeconds"].map(|side| {
        tunnel[side].as_f64().map_or_else(
            || "-".to_owned(),
            |seconds| format!("{:.1}ms", seconds * 1e3),
        )
    });
    let trips = match trips {
        [client, pod] if client == "-" && pod == "-" => client,
        trips => trips.join("/"),
    };
    Some(vec![
        tunnel["id"].as_u64()?.to_string(),
        whole(tunnel["ageSeconds"].as_f64()?),
        whole(tunnel["silentSeconds"].as_f64()?),
        tunnel["client"].as_str()?.to_owned(),
        tunnel["endpoint"].as_str()?.to_owned(),
        both("messages")?,
        both("bytes")?,
        trips,
        tunnel["ending"].as_str().unwrap_or("-").to_owned(),
        tunnel["route"].as_str()?.to_owned(),
    ])
}

/// Whole seconds.
fn whole(seconds: f64) -> String {
    let seconds = std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default();
    GatewayDuration(std::time::Duration::from_secs(seconds.as_secs())).to_string()
}
