//! The three calls that the standard library lacks.

use std::io;

/// Asks a process to end (SIGTERM), to reload (SIGHUP), or ends it (SIGKILL).
///
/// # Errors
///
/// The process is gone, or belongs to somebody else.
pub(crate) fn signal(pid: u32, signal: i32) -> io::Result<()> {
    let pid = i32::try_from(pid).map_err(io::Error::other)?;
    #[expect(
        unsafe_code,
        reason = "the standard library can only kill, and only children"
    )]
    // SAFETY: kill takes two integers and touches no memory of this process.
    let result = unsafe { libc::kill(pid, signal) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Makes the command's process end with SIGTERM when the thread that starts it does, whatever ends
/// that.
pub(crate) fn end_with_parent(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt as _;
    let ask = || {
        #[expect(unsafe_code, reason = "there is no safe form")]
        // SAFETY: prctl with PR_SET_PDEATHSIG takes an integer and touches no memory.
        let result = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    };
    #[expect(unsafe_code, reason = "there is no safe form")]
    // SAFETY: between fork and exec the closure makes one system call and allocates nothing
    // (last_os_error only reads errno).
    unsafe {
        command.pre_exec(ask);
    }
}

/// Raises the soft limit of open files to the hard one and returns it.
///
/// # Errors
///
/// Those of the system calls; none is known for a process's own limits.
pub(crate) fn raise_open_files() -> io::Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    #[expect(unsafe_code, reason = "there is no safe form")]
    // SAFETY: the pointer is to a live rlimit that getrlimit fills and setrlimit only reads.
    let result = unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit)
        } else {
            -1
        }
    };
    if result == 0 {
        Ok(limit.rlim_cur)
    } else {
        Err(io::Error::last_os_error())
    }
}
