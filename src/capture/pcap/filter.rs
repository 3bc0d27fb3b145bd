//! Capture filters in libpcap's language, compiled once per link type and run on frames.

use anyhow::{Result, anyhow};
use pcap::{BpfProgram, Capture, Linktype};

/// A filter for any link type.
pub(super) struct Filter {
    text: String,
    /// Compiled so far; `None` where the language has no meaning on that link type: nothing matches there.
    programs: Vec<(u16, Option<BpfProgram>)>,
}

impl Filter {
    /// Checks the text (against Ethernet, or else raw IP).
    pub(super) fn new(text: &str) -> Result<Filter> {
        let program = compile(text, 1).or_else(|error| compile(text, 101).map_err(|_| error));
        program.map_err(|error| anyhow!("the filter {text:?} does not compile: {error}"))?;
        Ok(Filter { text: text.to_owned(), programs: Vec::new() })
    }

    /// Whether a frame passes.
    pub(super) fn matches(&mut self, link: u16, frame: &[u8]) -> bool {
        let at = match self.programs.iter().position(|(known, _)| *known == link) {
            Some(at) => at,
            None => {
                self.programs.push((link, compile(&self.text, link).ok()));
                self.programs.len() - 1
            }
        };
        self.programs.get(at).and_then(|(_, program)| program.as_ref()).is_some_and(|program| program.filter(frame))
    }
}

fn compile(text: &str, link: u16) -> Result<BpfProgram, pcap::Error> {
    // LINKTYPE_RAW of files is called DLT_RAW, and has another number, inside libpcap on Linux.
    let dlt = if link == 101 { 12 } else { i32::from(link) };
    Capture::dead(Linktype(dlt))?.compile(text, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_compiled_for_each_link_type_and_a_bad_one_is_told() {
        let mut filter = Filter::new("tcp port 80").unwrap();
        let mut ip = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1];
        ip.extend([0x30, 0x39, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x10, 0, 0, 0, 0, 0, 0]);
        let mut ethernet = vec![0; 12];
        ethernet.extend([8, 0]);
        ethernet.extend(&ip);
        assert!(filter.matches(1, &ethernet) && filter.matches(101, &ip));
        ip[23] = 81;
        assert!(!filter.matches(101, &ip) && !filter.matches(1, &ip));
        assert!(Filter::new("tcp prot 80").err().unwrap().to_string().contains("does not compile"));
    }
}
