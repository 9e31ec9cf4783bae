package main

import (
	"flag"
	"fmt"
	"net"
	"time"
)

// forward passes bytes on to another address, each chunk after a delay, both ways: what is far away, on one machine. It prints
// the port it listens on.
func forward(arguments []string) {
	flags := flag.NewFlagSet("forward", flag.ExitOnError)
	to := flags.String("to", "", "where to")
	delay := flags.Duration("delay", 0, "one way")
	flags.Parse(arguments)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fail(err)
	}
	emit("forwarding", map[string]any{"port": listener.Addr().(*net.TCPAddr).Port})
	go obey(func(what, _ string, _ []string) { fail(fmt.Errorf("order %q is not known", what)) })
	for {
		near, err := listener.Accept()
		if err != nil {
			fail(err)
		}
		go func() {
			far, err := net.Dial("tcp", *to)
			if err != nil {
				near.Close()
				return
			}
			go relay(near, far, *delay)
			go relay(far, near, *delay)
		}()
	}
}

type chunk struct {
	due  time.Time
	data []byte
}

// relay keeps the order of the bytes and delays each by the same time, however many are under way.
func relay(from, to net.Conn, delay time.Duration) {
	queue := make(chan chunk, 1024)
	go func() {
		defer to.Close()
		for each := range queue {
			pause(time.Until(each.due))
			if _, err := to.Write(each.data); err != nil {
				from.Close()
			}
		}
	}()
	defer close(queue)
	for {
		buffer := make([]byte, 64*1024)
		size, err := from.Read(buffer)
		if size > 0 {
			queue <- chunk{time.Now().Add(delay), buffer[:size]}
		}
		if err != nil {
			return
		}
	}
}
