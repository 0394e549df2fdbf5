"""From which figures on the check warns, and from which on it calls something a fault."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 2**20
GIB = 2**30


@dataclass(frozen=True)
class Limits:
    """Thresholds of the check.

    Attributes
    ----------
    disk_fault, disk_warning
        Least free bytes on the disk of the home.
    memory_spare
        Bytes that must stay free beyond what the study needs.
    open_files
        Least files that the system lets a process open.
    clock_warning, clock_fault
        Seconds by which the clock may differ from the server's; the server refuses from 300 on.
    certificate_warning
        Days before the end of a certificate.
    connect_seconds
        Longest wait for one step on the network: a name, a connection, a handshake, an answer.
    step_patients
        Patients that are generated where there is no cohort.
    """

    disk_fault: int = 200 * MIB
    disk_warning: int = 2 * GIB
    memory_spare: int = 200 * MIB
    open_files: int = 256
    clock_warning: float = 30.0
    clock_fault: float = 240.0
    certificate_warning: int = 30
    connect_seconds: float = 6.0
    step_patients: int = 64
