//! Addresses that stand for names.
//!
//! They are of the network that is set apart for trying out network devices (RFC 2544), which nobody reaches. Each
//! instance has its own, so none learns what another asked for. A name that was not asked for in a long time gives its
//! address to another; clients are told to ask again well before.

use std::{collections::HashMap, net::Ipv4Addr};

/// 198.18.0.0, of which the last 16 bits are used.
const FIRST: u32 = 0xc612_0000;
/// The most names at a time.
const MOST: usize = 8192;

/// Names and the addresses given out for them.
#[derive(Default)]
pub(super) struct Placeholders {
    names: Vec<String>,
    places: HashMap<String, usize>,
    /// Which one is given out again next.
    oldest: usize,
}

impl Placeholders {
    /// The address that stands for a name.
    pub(super) fn address(&mut self, name: &str) -> Ipv4Addr {
        let place = match self.places.get(name) {
            Some(place) => *place,
            None => self.place(name),
        };
        // The first is the network's own.
        Ipv4Addr::from_bits(FIRST + 1 + u32::try_from(place).unwrap_or_default())
    }

    fn place(&mut self, name: &str) -> usize {
        let place = if self.names.len() < MOST {
            self.names.push(name.to_owned());
            self.names.len() - 1
        } else {
            let place = self.oldest;
            self.oldest = (place + 1) % MOST;
            self.places.remove(&std::mem::replace(&mut self.names[place], name.to_owned()));
            place
        };
        self.places.insert(name.to_owned(), place);
        place
    }

    /// The name that an address stands for.
    pub(super) fn name(&self, address: Ipv4Addr) -> Option<&str> {
        let place = address.to_bits().checked_sub(FIRST + 1)?;
        self.names.get(usize::try_from(place).ok()?).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_address_until_many_others_were_asked_for() {
        let mut placeholders = Placeholders::default();
        let first = placeholders.address("a.example");
        assert_eq!(first, Ipv4Addr::new(198, 18, 0, 1));
        assert_eq!(placeholders.address("a.example"), first);
        assert_eq!(placeholders.name(first), Some("a.example"));
        assert_eq!(placeholders.name(Ipv4Addr::new(198, 18, 0, 2)), None);
        assert_eq!(placeholders.name(Ipv4Addr::new(198, 18, 0, 0)), None);
        assert_eq!(placeholders.name(Ipv4Addr::new(8, 8, 8, 8)), None);
        for number in 0..MOST {
            let name = format!("{number}.example");
            let address = placeholders.address(&name);
            assert_eq!(placeholders.name(address), Some(name.as_str()));
        }
        assert_eq!(placeholders.name(first), Some("8191.example"));
        assert_eq!(placeholders.places.len(), MOST);
    }
}
