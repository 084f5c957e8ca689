//! What a process asks of the system for itself: its memory, and the order of its threads.

use std::{io, num::NonZero};

/// A thread of this process, as the system knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnThread(NonZero<i32>);

impl OwnThread {
    /// The calling thread; `None` where the system has no ids for them.
    #[must_use]
    #[cfg_attr(
        target_os = "linux",
        expect(unsafe_code, reason = "the call has no safe wrapper")
    )]
    pub fn current() -> Option<Self> {
        #[cfg(target_os = "linux")]
        // SAFETY: it takes nothing, changes nothing, and cannot fail.
        return NonZero::new(unsafe { libc::gettid() }).map(Self);
        #[cfg(not(target_os = "linux"))]
        None
    }

    /// Whether it uses a processor, or would if it got one. What waits for an answer does not.
    #[must_use]
    pub fn is_running(self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/self/task/{}/stat", self.0));
        let state = |stat: &str| Some(stat.rsplit_once(") ")?.1.starts_with('R'));
        stat.is_ok_and(|stat| state(&stat).unwrap_or_default())
    }

    /// Gives the thread idle priority (`SCHED_IDLE`), until [`restore_priority`](Self::restore_priority): every
    /// other thread of the machine goes first. One processor of those that the process may use is left to
    /// the others, where there are several. Threads that it starts meanwhile keep all that for good.
    ///
    /// # Errors
    /// What the system says.
    pub fn set_idle_priority(self) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        {
            self.schedule(libc::SCHED_IDLE)?;
            self.leave_a_processor()
        }
        #[cfg(not(target_os = "linux"))]
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Takes that back.
    ///
    /// # Errors
    /// Where this process may not: without `CAP_SYS_NICE` a thread cannot come back.
    pub fn restore_priority(self) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        {
            self.schedule(libc::SCHED_OTHER)?;
            let process = rustix::process::getpid();
            let processors = rustix::thread::sched_getaffinity(Some(process))?;
            rustix::thread::sched_setaffinity(self.pid(), &processors)?;
            Ok(())
        }
        #[cfg(not(target_os = "linux"))]
        Err(io::ErrorKind::Unsupported.into())
    }

    #[cfg(target_os = "linux")]
    fn pid(self) -> Option<rustix::process::Pid> {
        rustix::process::Pid::from_raw(self.0.get())
    }

    /// Keeps the thread from the first processor that it may use.
    #[cfg(target_os = "linux")]
    fn leave_a_processor(self) -> io::Result<()> {
        let mut processors = rustix::thread::sched_getaffinity(self.pid())?;
        let first = (0..rustix::thread::CpuSet::MAX_CPU).find(|cpu| processors.is_set(*cpu));
        if processors.count() > 1
            && let Some(first) = first
        {
            processors.unset(first);
            rustix::thread::sched_setaffinity(self.pid(), &processors)?;
        }
        Ok(())
    }

    #[cfg(target_os = "linux")]
    #[expect(unsafe_code, reason = "the call has no safe wrapper")]
    fn schedule(self, policy: libc::c_int) -> io::Result<()> {
        let parameters = libc::sched_param { sched_priority: 0 };
        // SAFETY: the call reads `parameters`, which outlives it, and changes nothing of ours.
        match unsafe { libc::sched_setscheduler(self.0.get(), policy, &raw const parameters) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Gives memory back to the system that was freed and that the allocator keeps. Takes milliseconds for
/// each hundred megabytes, in which other threads may wait for memory.
#[cfg_attr(
    all(target_os = "linux", target_env = "gnu"),
    expect(unsafe_code, reason = "the call has no safe wrapper")
)]
pub fn release_memory() {
    // Other allocators give it back by themselves.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it locks what it touches, and moves nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Unmaps the pages of this program's own code, most of which only its start needed. What is needed
/// again is mapped again, from memory, when it runs: some hundred microseconds for all of it.
///
/// # Errors
/// The system does not tell where the code is, or does not unmap it.
#[cfg_attr(
    target_os = "linux",
    expect(unsafe_code, reason = "the call has no safe wrapper")
)]
pub fn release_code() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    for range in own_code()? {
        let length = range.end - range.start;
        // SAFETY: the range is code of the running executable, mapped from its file, and nothing
        // writes to it: the next access finds the same bytes.
        let unmapped = unsafe {
            libc::madvise(
                std::ptr::with_exposed_provenance_mut(range.start),
                length,
                libc::MADV_DONTNEED,
            )
        };
        if unmapped != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// The addresses of the code of this program's executable, without that of libraries.
#[cfg(target_os = "linux")]
fn own_code() -> io::Result<Vec<std::ops::Range<usize>>> {
    use std::os::unix::fs::MetadataExt as _;

    let inode = std::fs::metadata("/proc/self/exe")?.ino();
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let code = maps.lines().filter_map(|line| {
        // Addresses, permissions, offset, device, inode, path.
        let mut fields = line.split_ascii_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let is_code = fields.next()? == "r-xp" && fields.nth(2)?.parse() == Ok(inode);
        let address = |text| usize::from_str_radix(text, 16).ok();
        is_code.then_some(address(start)?..address(end)?)
    });
    Ok(code.collect())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_gets_idle_priority_and_loses_it() {
        let policy = || {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            let (_, fields) = stat.rsplit_once(") ").unwrap();
            // Fields are counted from 1 in proc(5); the state is the third, the policy the 41st.
            fields.split(' ').nth(41 - 3).unwrap().to_owned()
        };
        let thread = OwnThread::current().unwrap();
        assert!(thread.is_running());

        let all = rustix::thread::sched_getaffinity(None).unwrap();
        thread.set_idle_priority().unwrap();

        let left = rustix::thread::sched_getaffinity(None).unwrap();
        assert_eq!(policy(), "5");
        assert_eq!(left.count(), (all.count() - 1).max(1));
        if thread.restore_priority().is_ok() {
            assert_eq!(policy(), "0");
            let restored = rustix::thread::sched_getaffinity(None).unwrap();
            assert_eq!(restored, all);
        }
    }

    #[test]
    fn memory_that_was_freed_goes_back() {
        let resident = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:"));
            let kib = line.unwrap().trim().trim_end_matches(" kB");
            kib.parse::<u64>().unwrap()
        };
        // Too small each to be mapped by itself; what lives between them keeps the rest from going
        // back without being asked.
        let blocks: Vec<Vec<u8>> = (0..20_000).map(|_| vec![1; 4000]).collect();
        let kept: Vec<Vec<u8>> = blocks.into_iter().step_by(100).collect();
        let before = resident();

        release_memory();

        let after = resident();
        assert!(after + 40_000 < before, "{before} KiB, then {after} KiB");
        drop(kept);
    }

    /// Kilobytes of this program's code that are resident, where the system tells.
    fn resident_code() -> Option<u64> {
        let smaps = std::fs::read_to_string("/proc/self/smaps").ok()?;
        let mut sum = 0;
        for range in own_code().ok()? {
            let start = format!("{:x}-", range.start);
            let mut lines = smaps.lines().skip_while(|line| !line.starts_with(&start));
            let rss = lines.find_map(|line| line.strip_prefix("Rss:"))?;
            sum += rss.trim_end_matches("kB").trim().parse::<u64>().ok()?;
        }
        Some(sum)
    }

    #[test]
    fn code_that_ran_once_is_given_back() {
        let text: String = (0..100).map(|number| format!("{number:>8.3}")).collect();
        let before = resident_code().unwrap();

        release_code().unwrap();

        let after = resident_code().unwrap();
        assert!(after < before, "{after} of {before} kB");
        // It runs on.
        let again: String = (0..100).map(|number| format!("{number:>8.3}")).collect();
        assert_eq!(text, again);
    }
}
