package main

import (
	"context"
	"fmt"
	"net"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
)

const named = 100 // addresses with open connections that are told by name

// visits is what is known of one address: when it was first and last connected to, called and left. Zero: never.
type visits struct {
	Accepted float64 `json:"accepted"`
	Closed   float64 `json:"closed"`
	First    float64 `json:"first"`
	Last     float64 `json:"last"`
	Calls    int     `json:"calls"`
	Open     int     `json:"open"`
}

type book struct {
	lock sync.Mutex
	kept map[string]*visits
}

func (b *book) note(address string, write func(*visits)) {
	b.lock.Lock()
	defer b.lock.Unlock()
	if b.kept[address] == nil {
		b.kept[address] = &visits{}
	}
	write(b.kept[address])
}

// watched is a listener that notes connections.
type watched struct {
	net.Listener
	book *book
}

func (w watched) Accept() (net.Conn, error) {
	connection, err := w.Listener.Accept()
	if err != nil {
		return nil, err
	}
	address, at := connection.LocalAddr().String(), now()
	w.book.note(address, func(v *visits) {
		v.Open++
		if v.Accepted == 0 {
			v.Accepted = at
		}
	})
	return &counted{Conn: connection, address: address, book: w.book}, nil
}

type counted struct {
	net.Conn
	address string
	book    *book
	once    sync.Once
}

func (c *counted) Close() error {
	c.once.Do(func() {
		at := now()
		c.book.note(c.address, func(v *visits) { v.Open--; v.Closed = at })
	})
	return c.Conn.Close()
}

func (b *book) answer(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	at := now()
	var asked []byte
	if err := decode(&asked); err != nil {
		return nil, err
	}
	who, _ := peer.FromContext(ctx)
	address := who.LocalAddr.String()
	b.note(address, func(v *visits) {
		v.Calls++
		v.Last = at
		if v.First == 0 {
			v.First = at
		}
	})
	answer := []byte(address)
	return &answer, nil
}

// serve answers calls with the address they came to. Orders: "listen TAG ADDRESS ...", "forget TAG ADDRESS", "seen TAG ADDRESS",
// "open TAG" (at how many addresses connections are open, and some of these).
func serve(addresses []string) {
	notes := &book{kept: map[string]*visits{}}
	server := grpc.NewServer(grpc.ForceServerCodec(raw{}))
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "drain.bench.Bench",
		Methods:     []grpc.MethodDesc{{MethodName: "Unary", Handler: notes.answer}},
	}, nil)
	listen := func(addresses []string) {
		for _, address := range addresses {
			listener, err := net.Listen("tcp", address)
			if err != nil {
				fail(err)
			}
			go server.Serve(watched{listener, notes})
		}
	}
	listen(addresses)
	emit("serving", map[string]any{"at": now()})
	obey(func(what, tag string, words []string) {
		switch what {
		case "listen":
			listen(words)
			emit(what, map[string]any{"tag": tag})
		case "forget":
			notes.note(words[0], func(v *visits) { *v = visits{Open: v.Open} })
			emit(what, map[string]any{"tag": tag})
		case "seen":
			var seen visits
			notes.note(words[0], func(v *visits) { seen = *v })
			emit(what, map[string]any{"tag": tag, "seen": seen})
		case "open":
			open, some := 0, []string{}
			notes.lock.Lock()
			for address, each := range notes.kept {
				if each.Open > 0 {
					open++
					if len(some) < named {
						some = append(some, address)
					}
				}
			}
			notes.lock.Unlock()
			emit(what, map[string]any{"tag": tag, "open": open, "some": some})
		default:
			fail(fmt.Errorf("order %q is not known", what))
		}
	})
}
