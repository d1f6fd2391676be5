#!/usr/bin/env python3
# Listens on a console socket and takes terminals, as runc's recvtty does for its suite.
import array, os, selectors, socket, sys

options = {}
words = []
args = sys.argv[1:]
while args:
    word = args.pop(0)
    if word in ("--no-stdin",):
        options[word] = True
    elif word.startswith("--"):
        name, _, value = word.partition("=")
        options[name] = value or args.pop(0)
    else:
        words.append(word)

server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
server.bind(words[0])
server.listen(64)
if "--pid-file" in options:
    with open(options["--pid-file"] + ".new", "w") as file:
        file.write(str(os.getpid()))
    os.rename(options["--pid-file"] + ".new", options["--pid-file"])
single = options.get("--mode", "single") == "single"


def take(connection):
    fds = array.array("i")
    _, control, _, _ = connection.recvmsg(4096, socket.CMSG_LEN(fds.itemsize))
    for level, kind, data in control:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    connection.close()
    return list(fds)


poll = selectors.DefaultSelector()
poll.register(server, selectors.EVENT_READ)
while True:
    for key, _ in poll.select():
        if key.fileobj is server:
            for fd in take(server.accept()[0]):
                poll.register(fd, selectors.EVENT_READ)
            continue
        try:
            data = os.read(key.fd, 65536)
        except OSError:
            data = b""
        if not data:
            poll.unregister(key.fd)
            os.close(key.fd)
            if single:
                sys.exit(0)
        elif single:
            os.write(1, data)
