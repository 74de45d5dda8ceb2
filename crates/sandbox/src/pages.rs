//! The pages of the program itself: which of them count as this process's memory.
//!
//! A start runs much of a program once and never again, and each page that it touched is resident from then on, with
//! those around it (the kernel maps sixteen at a time). They cost nothing that others could not have: they are the
//! file's, in the page cache. But they are what anybody sees who looks at how much memory a process has.

use std::{fs, io, path::Path};

use crate::sys;

/// Lets go of the pages of this process's own program that were only read. What is still needed is
/// mapped again on its next use, from the page cache, at less than a microsecond for sixteen pages. Gives the number of
/// bytes that were resident.
///
/// # Errors
/// Where `/proc/self` cannot be read.
pub fn let_go() -> io::Result<usize> {
    let program = fs::read_link("/proc/self/exe")?;
    let mappings = fs::read_to_string("/proc/self/smaps")?;
    let mut resident = 0;
    // Only the program's: what else is mapped may be unmapped by another thread meanwhile, and its place taken.
    for mapping in read(&mappings).filter(|mapping| mapping.is_only_read(&program)) {
        sys::let_go_of_file_pages(mapping.start, mapping.end)?;
        resident += mapping.resident;
    }
    Ok(resident)
}

/// A line of addresses in `smaps`, with what the lines below it say.
struct Mapping<'a> {
    start: usize,
    end: usize,
    permissions: &'a str,
    path: &'a str,
    resident: usize,
    /// Bytes that are this process's own and in no file.
    anonymous: usize,
}

impl Mapping<'_> {
    /// Whether all of it is a file's, so that nothing is lost: what the linker has relocated and then made read-only
    /// is not.
    fn is_only_read(&self, program: &Path) -> bool {
        let is_shown = self.permissions.starts_with("r-") && self.permissions.ends_with('p');
        is_shown && Path::new(self.path) == program && self.anonymous == 0 && self.resident > 0
    }
}

fn read(smaps: &str) -> impl Iterator<Item = Mapping<'_>> {
    let mut lines = smaps.lines().peekable();
    std::iter::from_fn(move || {
        let mut mapping = lines.by_ref().find_map(begin)?;
        while let Some(line) = lines.next_if(|line| begin(line).is_none()) {
            match line.split_once(':') {
                Some(("Rss", size)) => mapping.resident = bytes(size),
                Some(("Anonymous", size)) => mapping.anonymous = bytes(size),
                _ => {}
            }
        }
        Some(mapping)
    })
}

/// The first line of a mapping: `START-END PERMISSIONS OFFSET DEVICE INODE PATH`.
fn begin(line: &str) -> Option<Mapping<'_>> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let address = |hex| usize::from_str_radix(hex, 16).ok();
    let (start, end) = (address(start)?, address(end)?);
    let permissions = words.next()?;
    Some(Mapping { start, end, permissions, path: words.nth(3).unwrap_or(""), resident: 0, anonymous: 0 })
}

fn bytes(size: &str) -> usize {
    size.trim().trim_end_matches(" kB").parse().map_or(0, |kilobytes: usize| kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_files_hold_is_let_go_of() {
        let smaps = "\
55d0c0000000-55d0c0784000 r--p 00000000 fe:00 1 /usr/bin/haar
Rss:                 700 kB
Anonymous:             0 kB
VmFlags: rd mr mw me
55d0c0784000-55d0c1d0f000 r-xp 00784000 fe:00 1 /usr/bin/haar
Rss:                9000 kB
Anonymous:             0 kB
55d0c1d0f000-55d0c1dcb000 r--p 01d0f000 fe:00 1 /usr/bin/haar
Rss:                 752 kB
Anonymous:           752 kB
55d0c1dcb000-55d0c1dce000 rw-p 01dcb000 fe:00 1 /usr/bin/haar
Rss:                  12 kB
Anonymous:             0 kB
7f0000000000-7f0000021000 r-xp 00000000 fe:00 2 /lib/libc.so.6
Rss:                1200 kB
Anonymous:             0 kB
7ffc00000000-7ffc00021000 r-xp 00000000 00:00 0                          [vdso]
Rss:                   4 kB
Anonymous:             0 kB
";
        let program = Path::new("/usr/bin/haar");
        let chosen: Vec<_> = read(smaps)
            .filter(|mapping| mapping.is_only_read(program))
            .map(|m| (m.start, m.resident / 1024))
            .collect();
        assert_eq!(chosen, [(0x55d0_c000_0000, 700), (0x55d0_c078_4000, 9000)]);
        assert_eq!(read(smaps).count(), 6);
    }

    #[test]
    fn the_program_goes_on() {
        assert!(let_go().unwrap() > 0);
        // What ran since was read from the file again.
        assert!(let_go().unwrap() > 0);
    }
}
