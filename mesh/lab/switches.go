package lab

import "sync"

// switches holds which faults of one server are on.
type switches struct {
	mu sync.Mutex
	on map[string]bool
}

func (s *switches) set(fault string, on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.on == nil {
		s.on = map[string]bool{}
	}
	s.on[fault] = on
}

func (s *switches) is(fault string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.on[fault]
}

// take tells whether the fault is on and turns it off: it strikes once.
func (s *switches) take(fault string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	on := s.on[fault]
	delete(s.on, fault)
	return on
}
