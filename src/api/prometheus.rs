//! `/metrics`: the health answer's numbers in Prometheus's text format.

use std::fmt::Write;

use serde_json::Value;

/// The exposition of a health object.
pub(super) fn text(health: &Value) -> String {
    let mut out = String::new();
    let up = u8::from(health.get("status").and_then(Value::as_str) != Some("degraded"));
    line(&mut out, "heron_up", "gauge", "1 when heron loses nothing, 0 when it is degraded.");
    let _ = writeln!(out, "heron_up {up}");
    if let Some(uptime) = health.get("uptime_ms").and_then(Value::as_u64) {
        line(&mut out, "heron_uptime_seconds", "gauge", "Seconds since heron began.");
        let _ = writeln!(out, "heron_uptime_seconds {}", uptime as f64 / 1e3);
    }
    if let Some(stages) = health.get("counters").and_then(Value::as_object) {
        line(&mut out, "heron_events_total", "counter", "What each stage counted, by name.");
        for (stage, counters) in stages {
            for (name, count) in numbers(counters) {
                let _ =
                    writeln!(out, "heron_events_total{{stage=\"{}\",name=\"{}\"}} {count}", label(stage), label(name));
            }
        }
    }
    if let Some(losses) = health.get("losses") {
        line(&mut out, "heron_losses_total", "counter", "What was lost, by cause.");
        for (name, count) in numbers(losses) {
            let _ = writeln!(out, "heron_losses_total{{cause=\"{}\"}} {count}", label(name));
        }
    }
    for name in ["seen_bytes", "passed_bytes", "filtered_bytes"] {
        if let Some(bytes) = health.get(name).and_then(Value::as_u64) {
            let metric = format!("heron_{name}_total");
            line(&mut out, &metric, "counter", "Bytes at the kernel's filter.");
            let _ = writeln!(out, "{metric} {bytes}");
        }
    }
    out
}

fn line(out: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn numbers(object: &Value) -> impl Iterator<Item = (&String, u64)> {
    object.as_object().into_iter().flatten().filter_map(|(name, value)| Some((name, value.as_u64()?)))
}

fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn counters_and_losses_become_labelled_counters() {
        let health = serde_json::json!({
            "status": "ok", "uptime_ms": 1500, "counters": {"http": {"exchanges": 3}, "x\"y": {"n": 1}},
            "losses": {"ring_full": 0}, "seen_bytes": 10, "targets": []
        });
        let text = text(&health);
        assert!(text.contains("heron_up 1\n"));
        assert!(text.contains("heron_uptime_seconds 1.5\n"));
        assert!(text.contains("heron_events_total{stage=\"http\",name=\"exchanges\"} 3\n"));
        assert!(text.contains("stage=\"x\\\"y\""));
        assert!(text.contains("heron_losses_total{cause=\"ring_full\"} 0\n"));
        assert!(text.contains("heron_seen_bytes_total 10\n"));
    }
}
