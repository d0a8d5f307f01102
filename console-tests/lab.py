"""A mesh of the built programs, in network namespaces of this process: one coordinator, runners, and instances."""

import json
import os
import pathlib
import subprocess
import time

COORD, NODE = os.environ["MESH_COORD"], os.environ["MESH_NODE"]
PATIENCE = 60
URL = "https://10.9.0.1:7443"


def run(*command, **options):
    """What a command prints; it must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, **options)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def until(what, condition):
    """Waits for something, within bounds."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"waited in vain for {what}")


class Lab:
    def __init__(self):
        run("mount", "-t", "tmpfs", "none", "/run")
        os.makedirs("/run/netns")
        # An address that IPv6 makes up for an interface, a second after it, has Chromium break off what it loads.
        pathlib.Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
        run("ip", "link", "add", "out", "type", "bridge")
        run("ip", "addr", "add", "10.9.0.1/24", "dev", "out")
        run("ip", "link", "set", "out", "up")
        self.machines = self.number = 0
        self.processes = []

    def begin(self, name, *command, **options):
        """Starts a program that goes on, with a log."""
        log = open(f"/run/{name}.log", "w")
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, **options)
        self.processes.append(process)
        return process

    def coordinator(self):
        environment = {**os.environ, "NO_COLOR": "1"}
        flags = ["--data", "/run/coord", "--advertise", URL, "--console", "127.0.0.1:8443"]
        self.begin("coord", COORD, "serve", *flags, env=environment)
        os.environ["MESH_COORD_DATA"] = "/run/coord"
        until("the coordinator", lambda: os.path.exists("/run/coord/admin.sock") and self.try_coord("nodes"))

    def try_coord(self, *arguments):
        return subprocess.run([COORD, *arguments], capture_output=True).returncode == 0

    def coord(self, *arguments):
        return run(COORD, *arguments)

    def apply(self, name, text):
        file = pathlib.Path(f"/run/{name}.toml")
        file.write_text(text)
        self.coord("apply", str(file))

    def machine(self, name):
        """A namespace on the network."""
        self.machines += 1
        run("ip", "netns", "add", name)
        run("ip", "link", "add", f"v{self.machines}", "type", "veth", "peer", "name", "eth0", "netns", name)
        run("ip", "link", "set", f"v{self.machines}", "master", "out", "up")
        for line in (["link", "set", "lo", "up"], ["addr", "add", f"10.9.0.{self.machines + 1}/24", "dev", "eth0"],
                     ["link", "set", "eth0", "up"]):
            run("ip", "-n", name, *line)
        return name

    def join(self, name, line):
        """Joins a machine by a line as the console shows it."""
        program, command, *arguments = line.split()
        assert program == "mesh-node" and command in ("up", "join"), line
        # No systemd is here, for which `up` would write a unit that joins.
        arguments = ["join", *arguments]
        environment = {**os.environ, "MESH_NODE_STATE": f"/run/{name}", "NO_COLOR": "1"}
        flags = ["--name", name, "--provider", name.rstrip("-0123456789")]
        self.begin(name, "ip", "netns", "exec", name, NODE, *arguments, *flags, env=environment)
        until(f"{name} to join", lambda: any(n["name"] == name and n["state"] == "online" for n in self.nodes()))

    def runner(self, name):
        self.machine(name)
        self.join(name, f"mesh-node join {self.coord('token', 'create', '--any').strip()}")

    def nodes(self):
        return json.loads(self.coord("nodes", "--json"))["nodes"]

    def attach(self, runner, service):
        """An instance: its namespace, and what the agent says of it."""
        self.number += 1
        name = f"i{self.number}"
        run("ip", "netns", "add", name)
        environment = {**os.environ, "MESH_NODE_STATE": f"/run/{runner}"}
        command = ["ip", "netns", "exec", runner, NODE, "attach", service, "--netns", f"/run/netns/{name}", "--json"]
        return {"netns": name, **json.loads(run(*command, env=environment))["instance"]}

    def serve(self, instance, port):
        program = ("import socket\ns = socket.create_server(('', %d), backlog=64)\nprint('open', flush=True)\nheld = []\n"
                   "while True: held.append(s.accept())" % port)
        self.open_by(instance, program)

    def hold(self, instance, to, port):
        """A connection that stands."""
        program = f"import socket, time\ns = socket.create_connection(('{to}', {port}), 5)\nprint('open', flush=True)\ns.recv(1)"
        self.open_by(instance, program)

    def open_by(self, instance, program):
        """Starts a program there that says when it is ready, and goes on."""
        command = ["ip", "netns", "exec", instance["netns"], "python3", "-c", program]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.processes.append(process)
        assert process.stdout.readline() == "open\n"

    def calls(self, instance, to, port):
        """Whether a connection can be opened."""
        program = f"import socket; socket.create_connection(('{to}', {port}), 5)"
        command = ["ip", "netns", "exec", instance["netns"], "python3", "-c", program]
        return subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0

    def console(self):
        """A console on loopback, and the link to it."""
        process = subprocess.Popen([COORD, "console"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.processes.append(process)
        return process.stdout.readline().strip()

    def end(self):
        for process in self.processes:
            process.kill()
